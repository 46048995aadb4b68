// Package metrics reads what the exporter beside each server tells Prometheus, through
// connections that the caller dials: no local port is opened.
package metrics

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/redisctl/redisctl/internal/operation"
	"github.com/redisctl/redisctl/internal/operation/inspect"
)

// Port is where the chart's exporter (redis_exporter) listens.
const Port = 9121

// sizeLimit is the longest page that is read, in bytes: thousands of commands with their
// labels make about 1 MiB.
const sizeLimit = 16 << 20

// Dialer connects to a port of an instance's pod.
type Dialer interface {
	DialPort(ctx context.Context, d *operation.Deployment, i operation.Instance, port int) (net.Conn, error)
}

// Options are the user's choices.
type Options struct {
	// Port of the exporter, 1 to 65535.
	Port int
	// Grep keeps the metrics whose name matches; nil keeps all.
	Grep *regexp.Regexp
	// Timeout bounds each pod's answer.
	Timeout time.Duration
}

// Page is what one exporter said. Its JSON form is part of redisctl's interface
// (docs/json-output.md).
type Page struct {
	// Text is the exporter's own text, of the metrics that were kept.
	Text     string   `json:"-"`
	Families []Family `json:"metrics"`
}

// Family are the samples of one metric.
type Family struct {
	Name string `json:"name"`
	Help string `json:"help,omitempty"`
	// Type is counter, gauge, untyped, summary or histogram.
	Type    string   `json:"type"`
	Samples []Sample `json:"samples"`
}

// Sample is one value with its labels.
type Sample struct {
	// Name differs from the family's for parts of histograms and summaries: _sum,
	// _count, _bucket.
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
	// Value is a text, because JSON has no NaN and no infinity.
	Value string `json:"value"`
}

// Read asks the exporter beside every instance.
func Read(ctx context.Context, dialer Dialer, d *operation.Deployment, o Options) []inspect.Answer[Page] {
	return inspect.EachInstance(ctx, d, o.Timeout, func(ctx context.Context, i operation.Instance) (Page, error) {
		text, err := fetch(ctx, dialer, d, i, o.Port)
		if err != nil {
			return Page{}, explain(err, d, i, o.Port)
		}
		page, err := parse(text, o.Grep)
		if err != nil {
			return Page{}, &operation.Error{
				Kind: operation.Failed, Object: "pod " + i.Name, Phase: fmt.Sprintf("reading the metrics on port %d", o.Port), Err: err,
			}
		}
		return page, nil
	})
}

// explain says what an operator can do about an exporter that does not answer.
func explain(err error, d *operation.Deployment, i operation.Instance, port int) error {
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return &operation.Error{
		Kind: operation.Failed, Object: "pod " + d.Namespace + "/" + i.Name, Phase: "reading the metrics",
		Err:  fmt.Errorf("nothing listens on port %d: %w", port, errNoExporter),
		Next: "install the chart with metrics.enabled=true, or name another port with --port",
	}
}

// errNoExporter says that the pod has no exporter, or not there.
var errNoExporter = errors.New("the pod has no metrics sidecar there")

// fetch makes one HTTP request over one connection.
func fetch(ctx context.Context, dialer Dialer, d *operation.Deployment, i operation.Instance, port int) ([]byte, error) {
	client := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dialer.DialPort(ctx, d, i, port) },
		// A proxy of the operator's machine knows nothing of the pod.
		Proxy: nil, DisableKeepAlives: true,
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://localhost:%d/metrics", port), http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", string(expfmt.NewFormat(expfmt.TypeTextPlain)))
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }() // it was read, or the reading has failed
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the exporter of %s answers %s", i.Name, response.Status)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, sizeLimit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the metrics of %s: %w", i.Name, err)
	case len(text) > sizeLimit:
		return nil, fmt.Errorf("the metrics of %s are longer than %s", i.Name, operation.Bytes(sizeLimit))
	default:
		return text, nil
	}
}

// parse reads the text format of Prometheus.
func parse(text []byte, keep *regexp.Regexp) (Page, error) {
	page := Page{Families: []Family{}}
	names := make(map[string]bool)
	decoder := expfmt.NewDecoder(bytes.NewReader(text), expfmt.NewFormat(expfmt.TypeTextPlain))
	for {
		var f dto.MetricFamily
		err := decoder.Decode(&f)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Page{}, fmt.Errorf("not the text format of Prometheus: %w", err)
		}
		if keep != nil && !keep.MatchString(f.GetName()) {
			continue
		}
		names[f.GetName()] = true
		family, err := familyOf(&f)
		if err != nil {
			return Page{}, err
		}
		page.Families = append(page.Families, family)
	}
	// The decoder gives them in the order of a hash table.
	position := func(f Family) int {
		if at := bytes.Index(text, []byte("# TYPE "+f.Name+" ")); at >= 0 {
			return at
		}
		return bytes.Index(text, []byte(f.Name))
	}
	slices.SortStableFunc(page.Families, func(a, b Family) int { return cmp.Compare(position(a), position(b)) })
	page.Text = strings.TrimSuffix(string(text), "\n")
	if keep != nil {
		page.Text = linesOf(page.Text, names)
	}
	return page, nil
}

// linesOf keeps the lines about some metrics as they are. Samples follow the HELP or TYPE
// line of their metric, if there is one; those of summaries and histograms have longer names.
func linesOf(text string, names map[string]bool) string {
	var kept []string
	family := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		name, _, _ := strings.Cut(words[0], "{")
		switch {
		case len(words) > 2 && name == "#" && (words[1] == "HELP" || words[1] == "TYPE"):
			family = words[2]
		case name == "#":
			continue // a comment
		case name != family && !slices.Contains([]string{family + "_sum", family + "_count", family + "_bucket"}, name):
			family = name
		}
		if names[family] {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// familyOf flattens a metric into samples, as Prometheus itself stores them.
func familyOf(f *dto.MetricFamily) (Family, error) {
	vector, err := expfmt.ExtractSamples(&expfmt.DecodeOptions{Timestamp: model.Earliest}, f)
	if err != nil {
		return Family{}, err
	}
	family := Family{Name: f.GetName(), Help: f.GetHelp(), Type: strings.ToLower(f.GetType().String()), Samples: make([]Sample, len(vector))}
	for i, s := range vector {
		labels := make(map[string]string, len(s.Metric))
		for name, value := range s.Metric {
			if name != model.MetricNameLabel {
				labels[string(name)] = string(value)
			}
		}
		family.Samples[i] = Sample{Name: string(s.Metric[model.MetricNameLabel]), Labels: labels, Value: s.Value.String()}
	}
	return family, nil
}
