package restore

// Comparison is the proof of a restore: what a server holds against what the backup
// holds. Its JSON form is part of redisctl's interface (docs/json-output.md).
type Comparison struct {
	// Instance that was asked.
	Instance string `json:"instance"`
	// DBs compares the numbers of keys of each database of either side.
	DBs []DBComparison `json:"dbs"`
	// Keys counts the keys whose values and expiry times were compared, out of
	// OfKeys.
	Keys   int64 `json:"keysCompared"`
	OfKeys int64 `json:"keysOf"`
	// Missing, Different and ExpiryDiffers count those that were not as in the
	// backup, Examples names some of them.
	Missing       int64    `json:"missing"`
	Different     int64    `json:"different"`
	ExpiryDiffers int64    `json:"expiryDiffers"`
	Examples      []string `json:"examples"`
	// Expired counts the compared keys whose time had come meanwhile.
	Expired int64 `json:"expired"`
	// Evicted is how many keys the server gave up for want of memory since it
	// started.
	Evicted int64 `json:"evictedKeys"`
	// Functions are the libraries of each side.
	Functions      int64 `json:"functions"`
	FunctionsFound int64 `json:"functionsFound"`
	// Equal is the verdict.
	Equal bool `json:"equal"`
}

// DBComparison compares one database.
type DBComparison struct {
	DB int `json:"db"`
	// Backup is how many keys the backup has, Expired how many of those have an
	// expiry time that has passed: the server may have dropped them or not.
	Backup  int64 `json:"backup"`
	Expired int64 `json:"expired"`
	Found   int64 `json:"found"`
}

// Equal reports whether the number found is one of those that the backup allows.
func (c DBComparison) Equal() bool { return c.Found <= c.Backup && c.Found >= c.Backup-c.Expired }
