package meter

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Spread is what runs of the same came to: the median, the least and the most.
type Spread struct {
	Median float64 `json:"median"`
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
}

// SpreadOf is the spread of what f says of each run; zero of none. The median of an
// even number is the mean of the two in the middle.
func SpreadOf[T any](runs []T, f func(T) float64) Spread {
	if len(runs) == 0 {
		return Spread{}
	}
	var list []float64
	for _, r := range runs {
		list = append(list, f(r))
	}
	slices.Sort(list)
	n := len(list)
	return Spread{Median: (list[(n-1)/2] + list[n/2]) / 2, Least: list[0], Most: list[n-1]}
}

// String is the median with the range behind it, or alone where there is none.
func (s Spread) String() string {
	if s.Least == s.Most {
		return Figure(s.Median)
	}
	return fmt.Sprintf("%s (%s–%s)", Figure(s.Median), Figure(s.Least), Figure(s.Most))
}

// Figure is v with three digits that count, thousands as k.
func Figure(v float64) string {
	switch size := math.Abs(v); {
	case size >= 1e6:
		return fmt.Sprintf("%.2fM", v/1e6)
	case size >= 99_950:
		return fmt.Sprintf("%.0fk", v/1e3)
	case size >= 9_995:
		return fmt.Sprintf("%.1fk", v/1e3)
	case size >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case size >= 9.995:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// Micros is d in microseconds.
func Micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
