package redis

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Role is what a server says it is in a replication topology.
type Role string

// The roles. Redis's own words are "master" and "slave".
const (
	RolePrimary Role = "primary"
	RoleReplica Role = "replica"
)

// ParseRole translates the role as INFO and ROLE spell it.
func ParseRole(word string) (Role, error) {
	switch word {
	case "master":
		return RolePrimary, nil
	case "slave":
		return RoleReplica, nil
	default:
		return "", fmt.Errorf("unknown role %q", word)
	}
}

// Replication is the replication section of INFO.
type Replication struct {
	Role Role
	// ID names the history of writes; Offset counts its bytes. Two servers with
	// equal ID and Offset hold the same data.
	ID     string
	Offset int64
	// SecondID is the history that this server shared up to SecondOffset, before
	// it was promoted. Empty when there is none.
	SecondID     string
	SecondOffset int64
	// FailoverState is master_failover_state (6.2+), normally "no-failover".
	FailoverState string

	// Upstream is nil on a primary.
	Upstream *Upstream
	// Replicas are the servers that follow this one.
	Replicas []Follower
}

// Upstream is the primary that a replica follows.
type Upstream struct {
	Host string
	Port int
	// LinkUp is master_link_status.
	LinkUp bool
	// LinkDownFor is 0 while the link is up, and negative when it never was.
	LinkDownFor time.Duration
	// LastIO is the time since the last byte from the primary; -1 s when never.
	LastIO time.Duration
	// SyncInProgress is set during a full resynchronisation.
	SyncInProgress bool
	// SyncLeft counts bytes of that resynchronisation, when the server knows.
	SyncLeft int64
	ReadOnly bool
	Priority int
}

// Follower is one replica as its primary sees it.
type Follower struct {
	Host string
	Port int
	// State is "online", "wait_bgsave" or "send_bulk".
	State  string
	Offset int64
	// Lag is the time since the replica's last acknowledgement, in whole seconds.
	Lag time.Duration
}

// Address returns host:port.
func (u Upstream) Address() string { return net.JoinHostPort(u.Host, strconv.Itoa(u.Port)) }

// Replication reads the replication section. An error means that the section is
// missing or has an unknown role.
func (i Info) Replication() (Replication, error) {
	role, err := ParseRole(i.Get("role"))
	if err != nil {
		return Replication{}, fmt.Errorf("INFO replication: %w", err)
	}
	r := Replication{
		Role:          role,
		ID:            i.Get("master_replid"),
		Offset:        i.Int("master_repl_offset"),
		SecondOffset:  i.Int("second_repl_offset"),
		FailoverState: i.Get("master_failover_state"),
	}
	if second := i.Get("master_replid2"); strings.Trim(second, "0") != "" {
		r.SecondID = second
	}
	if role == RoleReplica {
		r.Upstream = &Upstream{
			Host:           i.Get("master_host"),
			Port:           int(i.Int("master_port")),
			LinkUp:         i.Get("master_link_status") == "up",
			LastIO:         seconds(i.Int("master_last_io_seconds_ago")),
			SyncInProgress: i.Bool("master_sync_in_progress"),
			SyncLeft:       i.Int("master_sync_left_bytes"),
			ReadOnly:       i.Bool("slave_read_only"),
			Priority:       int(i.Int("slave_priority")),
		}
		if !r.Upstream.LinkUp {
			r.Upstream.LinkDownFor = seconds(i.Int("master_link_down_since_seconds"))
		}
		// What a replica has applied is slave_repl_offset; master_repl_offset is
		// the same number except during a resynchronisation.
		if i.Has("slave_repl_offset") {
			r.Offset = i.Int("slave_repl_offset")
		}
	}
	for n := range i.Int("connected_slaves") {
		// A backup over the replication protocol looks like a replica with port 0.
		if f, ok := parseFollower(i.Get("slave" + strconv.FormatInt(n, 10))); ok && f.Port != 0 {
			r.Replicas = append(r.Replicas, f)
		}
	}
	return r, nil
}

func parseFollower(value string) (Follower, bool) {
	parts, ok := composite(value)
	if !ok {
		return Follower{}, false
	}
	var f Follower
	for _, p := range parts {
		n, _ := strconv.ParseInt(p.Value, 10, 64) // 0 for what is not a number
		switch p.Name {
		case "ip":
			f.Host = p.Value
		case "port":
			f.Port = int(n)
		case "state":
			f.State = p.Value
		case "offset":
			f.Offset = n
		case "lag":
			f.Lag = seconds(n)
		}
	}
	return f, true
}

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

// Persistence is the persistence section of INFO.
type Persistence struct {
	// Loading is set while the server reads its data at start-up.
	Loading bool
	// LoadedPercent and LoadETA are meaningful while Loading.
	LoadedPercent float64
	LoadETA       time.Duration

	ChangesSinceSave int64
	SaveInProgress   bool
	// LastSave is zero when the server never said so.
	LastSave   time.Time
	LastSaveOK bool

	AOFEnabled           bool
	AOFRewriteInProgress bool
	AOFLastRewriteOK     bool
	AOFLastWriteOK       bool
}

// Persistence reads the persistence section.
func (i Info) Persistence() Persistence {
	p := Persistence{
		Loading:              i.Bool("loading"),
		LoadedPercent:        i.Float("loading_loaded_perc"),
		LoadETA:              seconds(i.Int("loading_eta_seconds")),
		ChangesSinceSave:     i.Int("rdb_changes_since_last_save"),
		SaveInProgress:       i.Bool("rdb_bgsave_in_progress"),
		LastSaveOK:           i.Get("rdb_last_bgsave_status") == "ok",
		AOFEnabled:           i.Bool("aof_enabled"),
		AOFRewriteInProgress: i.Bool("aof_rewrite_in_progress"),
		AOFLastRewriteOK:     i.Get("aof_last_bgrewrite_status") == "ok",
		AOFLastWriteOK:       i.Get("aof_last_write_status") == "ok",
	}
	if at := i.Int("rdb_last_save_time"); at > 0 {
		p.LastSave = time.Unix(at, 0).UTC()
	}
	return p
}

// Memory is the memory section of INFO, in bytes.
type Memory struct {
	Used, RSS, Peak int64
	// Max is maxmemory; 0 means no limit.
	Max    int64
	Policy string
	// NotCounted are bytes that do not count towards Max (replication and AOF
	// buffers: mem_not_counted_for_evict).
	NotCounted int64
	// Fragmentation is RSS / used.
	Fragmentation float64
}

// Memory reads the memory section.
func (i Info) Memory() Memory {
	return Memory{
		Used:          i.Int("used_memory"),
		RSS:           i.Int("used_memory_rss"),
		Peak:          i.Int("used_memory_peak"),
		Max:           i.Int("maxmemory"),
		Policy:        i.Get("maxmemory_policy"),
		NotCounted:    i.Int("mem_not_counted_for_evict"),
		Fragmentation: i.Float("mem_fragmentation_ratio"),
	}
}

// UsedFraction returns how full the memory limit is, the way the server decides
// about eviction, or 0 without a limit.
func (m Memory) UsedFraction() float64 {
	if m.Max <= 0 {
		return 0
	}
	return float64(m.Used-m.NotCounted) / float64(m.Max)
}

// DBKeys counts the keys of one logical database.
type DBKeys struct {
	DB      int   `json:"db"`
	Keys    int64 `json:"keys"`
	Expires int64 `json:"expires"`
}

// Keyspace reads the keyspace section: the databases that hold keys, in order.
func (i Info) Keyspace() []DBKeys {
	var dbs []DBKeys
	for _, section := range i.sections {
		for _, f := range section.Fields {
			number, ok := strings.CutPrefix(f.Name, "db")
			if !ok {
				continue
			}
			db, err := strconv.Atoi(number)
			parts, isComposite := composite(f.Value)
			if err != nil || !isComposite {
				continue
			}
			entry := DBKeys{DB: db}
			for _, p := range parts {
				n, _ := strconv.ParseInt(p.Value, 10, 64) // 0 for what is not a number
				switch p.Name {
				case "keys":
					entry.Keys = n
				case "expires":
					entry.Expires = n
				}
			}
			dbs = append(dbs, entry)
		}
	}
	return dbs
}

// TotalKeys adds up the keys of all databases.
func (i Info) TotalKeys() int64 {
	var n int64
	for _, db := range i.Keyspace() {
		n += db.Keys
	}
	return n
}

// Version reads the server section's version.
func (i Info) Version() (Version, error) {
	if v := i.Get("valkey_version"); v != "" {
		return ParseVersion("valkey", v)
	}
	return ParseVersion("redis", i.Get("redis_version"))
}

// Uptime reads the server section's uptime, in whole seconds.
func (i Info) Uptime() time.Duration { return seconds(i.Int("uptime_in_seconds")) }
