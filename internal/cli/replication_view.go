package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/replication"
	"github.com/redisctl/redisctl/internal/redis"
	"github.com/redisctl/redisctl/internal/render"
)

func replicationDocument(r replication.Report) render.Document {
	return render.Document{
		Value:  r,
		Names:  instanceNames(r),
		Blocks: []render.Block{topologyTree(r), serviceTable(r), findingList(r.Findings)},
	}
}

func instanceNames(r replication.Report) []string {
	names := make([]string, len(r.Instances))
	for i, instance := range r.Instances {
		names[i] = instance.Name
	}
	return names
}

func instanceOf(r replication.Report, name string) replication.Instance {
	return r.Instances[slices.IndexFunc(r.Instances, func(i replication.Instance) bool { return i.Name == name })]
}

// topologyTree draws who follows whom. Servers outside the deployment, and
// instances that did not answer, hang below the root so that nothing is hidden.
func topologyTree(r replication.Report) render.Block {
	root := render.Tree{Label: []render.Cell{
		{Text: title(r.Namespace, r.Release, r.Name), Style: render.Strong}, {Text: r.Mode, Style: render.Dim},
	}}
	placed := make(map[string]bool)
	var place func(i replication.Instance) render.Tree
	place = func(i replication.Instance) render.Tree {
		placed[i.Name] = true
		node := render.Tree{Label: instanceLabel(i)}
		for _, other := range r.Instances {
			if other.Replica != nil && other.Replica.Follows == i.Name && !placed[other.Name] {
				node.Children = append(node.Children, place(other))
			}
		}
		return node
	}
	for _, i := range r.Instances {
		if i.Role == redis.RolePrimary {
			root.Children = append(root.Children, place(i))
		}
	}
	for _, i := range r.Instances {
		if i.Replica != nil && !placed[i.Name] && !slices.Contains(instanceNames(r), i.Replica.Follows) {
			outside := render.Tree{Label: []render.Cell{{Text: i.Replica.Follows, Style: render.Warn}, {Text: "outside this deployment", Style: render.Dim}}}
			outside.Children = append(outside.Children, place(i))
			root.Children = append(root.Children, outside)
		}
	}
	for _, i := range r.Instances {
		if !placed[i.Name] { // no answer, or replicas that follow each other in a circle
			root.Children = append(root.Children, place(i))
		}
	}
	return root
}

func instanceLabel(i replication.Instance) []render.Cell {
	label := []render.Cell{{Text: i.Name, Style: render.Strong}}
	if i.Error != "" {
		return append(label, render.Cell{Text: i.Error, Style: render.Bad})
	}
	label = append(label, roleCell(i.Role))
	if i.Replica == nil {
		return append(label, render.Cell{Text: fmt.Sprintf("offset %d, %d keys, history %.8s", i.Offset, i.Keys, i.ReplicationID), Style: render.Dim})
	}
	link := linkCell(i.Replica.Link)
	link.Text = "link " + link.Text
	return append(label, link, render.Cell{Text: "lag " + lagOf(i.Replica) + fmt.Sprintf(", offset %d, %d keys", i.Offset, i.Keys), Style: render.Dim})
}

func lagOf(r *replication.Replica) string {
	if r.LagBytes == nil {
		return "unknown"
	}
	return fmt.Sprintf("%s (%s)", operation.Bytes(*r.LagBytes), silentText(r))
}

func silentText(r *replication.Replica) string {
	if r.LagSeconds < 0 {
		return "never"
	}
	return fmt.Sprintf("%d s", r.LagSeconds)
}

func serviceTable(r replication.Report) render.Block {
	if len(r.Services) == 0 {
		return render.Text{}
	}
	t := render.Table{Columns: []render.Column{{Title: "SERVICE"}, {Title: "SENDS TO"}, {Title: "ENDPOINTS"}}}
	for _, s := range r.Services {
		to := render.T("every pod that matches")
		switch {
		case s.Headless:
			to = render.Cell{Text: "headless", Style: render.Dim}
		case s.Selects != "":
			to = render.Cell{Text: s.Selects, Style: render.Good}
			if r.Primary != "" && s.Selects != r.Primary {
				to.Style = render.Bad
			}
		}
		t.Rows = append(t.Rows, []render.Cell{{Text: s.Name, Style: render.Strong}, to, render.T(strings.Join(s.Endpoints, ", "))})
	}
	return t
}

// primaryResult is the JSON form of `replication primary`.
type primaryResult struct {
	Namespace     string `json:"namespace,omitempty"`
	Release       string `json:"release,omitempty"`
	Name          string `json:"name"`
	Primary       string `json:"primary"`
	ReplicationID string `json:"replicationId"`
	Offset        int64  `json:"offset"`
}

func primaryDocument(r replication.Report, name string) render.Document {
	i := instanceOf(r, name)
	return render.Document{
		Value: primaryResult{
			Namespace: r.Namespace, Release: r.Release, Name: r.Name,
			Primary: name, ReplicationID: i.ReplicationID, Offset: i.Offset,
		},
		Names:  []string{name},
		Blocks: []render.Block{render.Text{Text: name}},
	}
}

func roleDocument(r replication.Report) render.Document {
	t := render.Table{Columns: []render.Column{{Title: "NAME"}, {Title: "ROLE"}, {Title: "FOLLOWS"}, {Title: "LINK"}}}
	for _, i := range r.Instances {
		row := []render.Cell{{Text: i.Name, Style: render.Strong}, roleCell(i.Role), render.T(""), render.T("")}
		if i.Replica != nil {
			row[2], row[3] = render.T(i.Replica.Follows), linkCell(i.Replica.Link)
		}
		if i.Error != "" {
			row[1] = render.Cell{Text: i.Error, Style: render.Bad}
		}
		t.Rows = append(t.Rows, row)
	}
	return render.Document{Value: r, Names: instanceNames(r), Blocks: []render.Block{t}}
}

func lagDocument(r replication.Report) render.Document {
	t := render.Table{
		Columns: []render.Column{
			{Title: "REPLICA"}, {Title: "FOLLOWS"}, {Title: "LINK"}, {Title: "BEHIND", Right: true},
			{Title: "SILENT", Right: true}, {Title: "OFFSET", Right: true},
		},
		Empty: "No replicas.",
	}
	for _, i := range r.Instances {
		if i.Error != "" {
			t.Rows = append(t.Rows, []render.Cell{{Text: i.Name, Style: render.Strong}, {Text: i.Error, Style: render.Bad}, {}, {}, {}, {}})
		}
		if i.Replica == nil {
			continue
		}
		t.Rows = append(t.Rows, []render.Cell{
			{Text: i.Name, Style: render.Strong}, render.T(i.Replica.Follows), linkCell(i.Replica.Link),
			render.T(behindText(i.Replica)), render.T(silentText(i.Replica)), render.T(strconv.FormatInt(i.Offset, 10)),
		})
	}
	return render.Document{Value: r, Names: instanceNames(r), Blocks: []render.Block{t, findingList(r.Findings)}}
}

// checkResult is the JSON form of `replication check`.
type checkResult struct {
	Ready bool `json:"ready"`
	replication.Report
}

func checkDocument(r replication.Report, ready bool) render.Document {
	verdict := render.Text{Text: "ready: one primary, every replica in sync, Services reach it", Style: render.Good}
	if !ready {
		verdict = render.Text{Text: "not ready", Style: render.Bad}
	}
	return render.Document{
		Value: checkResult{Ready: ready, Report: r}, Names: instanceNames(r),
		Blocks: []render.Block{verdict, findingList(r.Findings)},
	}
}
