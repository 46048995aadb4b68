package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// guardTable is the nftables table that holds the guard rules.
const guardTable = "redisctl_guard"

// proxyTable is the table kube-proxy keeps its rules in, once per family.
const proxyTable = "kube-proxy"

// Guard installs the rules that keep pods' traffic on this machine and others'
// traffic out of the cluster. Installing them again replaces them.
func (p Plan) Guard(ctx context.Context) error {
	return nft(ctx, p.guardRules())
}

// guardRules is one nft transaction: declaring the table before deleting it
// makes the deletion succeed whether or not it existed.
func (p Plan) guardRules() string {
	inside := fmt.Sprintf("{ %s, %s }", p.Pods, p.Services)
	return fmt.Sprintf(`table inet %[1]s
delete table inet %[1]s
table inet %[1]s {
	chain forward {
		type filter hook forward priority filter - 10; policy accept;
		ip saddr %[2]s ip daddr != %[3]s counter drop
		ip daddr %[3]s ip saddr != %[2]s counter drop
	}
	chain input {
		type filter hook input priority filter - 10; policy accept;
		iifname != "lo" ip daddr %[3]s ip saddr != %[2]s counter drop
	}
}
`, guardTable, p.Pods, inside)
}

// Unguard removes the guard rules and kube-proxy's, which it leaves behind
// when it ends.
func (p Plan) Unguard(ctx context.Context) error {
	tables, err := Tables(ctx)
	if err != nil {
		return err
	}
	var script strings.Builder
	for _, t := range tables {
		fmt.Fprintf(&script, "delete table %s\n", t)
	}
	if script.Len() == 0 {
		return nil
	}
	return nft(ctx, script.String())
}

// Tables lists the cluster's nftables tables that exist, as "family name".
func Tables(ctx context.Context) ([]string, error) {
	out, err := exec.CommandContext(ctx, "nft", "--json", "list", "tables").Output()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, nil // without nft, nobody has made any
	}
	if err != nil {
		return nil, fmt.Errorf("listing nftables tables: %w", err)
	}
	return parseTables(out)
}

func parseTables(list []byte) ([]string, error) {
	var answer struct {
		Nftables []struct {
			Table *struct{ Family, Name string }
		}
	}
	if err := json.Unmarshal(list, &answer); err != nil {
		return nil, fmt.Errorf("reading the list of nftables tables: %w", err)
	}
	var ours []string
	for _, entry := range answer.Nftables {
		if t := entry.Table; t != nil && (t.Name == guardTable || t.Name == proxyTable) {
			ours = append(ours, t.Family+" "+t.Name)
		}
	}
	return ours, nil
}

func nft(ctx context.Context, script string) error {
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w\n%s", err, out)
	}
	return nil
}
