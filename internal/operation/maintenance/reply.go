package maintenance

import (
	"encoding/base64"
	"encoding/json"
	"unicode/utf8"
)

// Kind is the type of a reply, as RESP2 tells it.
type Kind int

// The types of replies.
const (
	Nil Kind = iota
	Status
	Bulk
	Integer
	Array
	ErrorReply
)

// Reply is what a server answers to one command.
type Reply struct {
	Kind Kind
	// Text of a Status, a Bulk (any bytes) or an ErrorReply.
	Text string
	Int  int64
	// Items of an Array.
	Items []Reply
	// Err is an ErrorReply as operation.Server would return it; nil otherwise.
	Err error
}

// MarshalJSON writes strings as strings, integers as numbers, nil as null and arrays as
// arrays. Bytes that are not UTF-8 become {"base64": "…"}, and an error within an array
// {"error": "…"}.
func (r Reply) MarshalJSON() ([]byte, error) {
	switch r.Kind {
	case Integer:
		return json.Marshal(r.Int)
	case Array:
		items := r.Items
		if items == nil {
			items = []Reply{}
		}
		return json.Marshal(items)
	case ErrorReply:
		return json.Marshal(map[string]string{"error": r.Text})
	case Status, Bulk:
		if !utf8.ValidString(r.Text) {
			return json.Marshal(map[string]string{"base64": base64.StdEncoding.EncodeToString([]byte(r.Text))})
		}
		return json.Marshal(r.Text)
	default:
		return []byte("null"), nil
	}
}

// text of a string, "" for any other reply.
func (r Reply) text() string {
	if r.Kind == Status || r.Kind == Bulk {
		return r.Text
	}
	return ""
}

// item returns an element of an array, or a nil reply.
func (r Reply) item(i int) Reply {
	if i < len(r.Items) {
		return r.Items[i]
	}
	return Reply{}
}
