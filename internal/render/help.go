package render

import (
	"regexp"
	"strings"
)

// Help fits the text of --help into a width (0: unlimited): paragraphs are filled anew
// where a line is too long, and what stands behind a flag or a command is continued below
// itself. What is there to be copied, the usage and the examples, is left to the terminal.
func Help(text string, width int) string {
	if width == 0 {
		return text
	}
	h := helpFitter{painter: painter{width: width}}
	for line := range strings.SplitSeq(text, "\n") {
		h.add(line)
	}
	h.endParagraph()
	return strings.Join(h.lines, "\n")
}

type helpFitter struct {
	painter   painter
	lines     []string
	paragraph []string
	verbatim  bool // what stands here is to be copied
	listing   bool // the commands and flags have begun
}

// helpTerm is a flag, a command or a term, and what stands behind it.
var helpTerm = regexp.MustCompile(`^(\s{2,}(?:-\w, )?\S+(?: \S+)?\s{2,})(\S.*)$`)

// helpCommand is a command; the longest name of a list has only one space behind it.
var helpCommand = regexp.MustCompile(`^(  [a-z-]+ +)(\S.*)$`)

// hanging is how far a description is indented that finds no room beside what it
// describes.
const hanging = 8

func (h *helpFitter) add(line string) {
	if line != "" && line[0] != ' ' {
		h.paragraph = append(h.paragraph, line)
		return
	}
	h.endParagraph()
	parts := helpTerm.FindStringSubmatch(line)
	if parts == nil && h.listing {
		parts = helpCommand.FindStringSubmatch(line)
	}
	switch {
	case h.verbatim, parts == nil, len([]rune(line)) <= h.painter.width, strings.HasSuffix(strings.TrimSpace(parts[1]), ":"):
		h.lines = append(h.lines, line)
	case len(parts[1]) > h.painter.width/2:
		h.lines = append(h.lines, strings.TrimRight(parts[1], " "))
		h.indented(strings.Repeat(" ", hanging), parts[2])
	default:
		last := len(h.lines)
		h.indented(strings.Repeat(" ", len(parts[1])), parts[2])
		h.lines[last] = parts[1] + strings.TrimLeft(h.lines[last], " ")
	}
}

// endParagraph adds the lines that belong together. A heading begins a section.
func (h *helpFitter) endParagraph() {
	text := h.paragraph
	h.paragraph = nil
	if len(text) == 0 {
		return
	}
	if len(text) == 1 && strings.HasSuffix(text[0], ":") {
		h.verbatim = text[0] == "Usage:" || text[0] == "Examples:"
		h.listing = h.listing || h.verbatim
	}
	for _, line := range text {
		if len([]rune(line)) > h.painter.width {
			filled := h.painter.wrap(strings.Join(text, " "), h.painter.width)
			h.lines = append(h.lines, strings.Split(filled, "\n")...)
			return
		}
	}
	h.lines = append(h.lines, text...)
}

func (h *helpFitter) indented(indent, text string) {
	for line := range strings.SplitSeq(h.painter.wrap(text, h.painter.width-len(indent)), "\n") {
		h.lines = append(h.lines, indent+line)
	}
}
