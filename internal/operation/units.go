package operation

import "fmt"

// Bytes is a size that prints itself with a binary unit: "512 B", "1.5 MiB".
type Bytes int64

// String implements fmt.Stringer with three significant digits at most.
func (b Bytes) String() string {
	const units = "KMGTPE"
	if b < 1024 {
		return fmt.Sprintf("%d B", int64(b))
	}
	value, unit := float64(b)/1024, 0
	for value >= 1024 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	if value >= 100 {
		return fmt.Sprintf("%.0f %ciB", value, units[unit])
	}
	return fmt.Sprintf("%.1f %ciB", value, units[unit])
}
