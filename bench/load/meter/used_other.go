//go:build !unix

package meter

import (
	"runtime/metrics"
	"time"
)

// Used is about the processor time of this process so far, as Go counts it.
func Used() time.Duration {
	used := []metrics.Sample{{Name: "/cpu/classes/total:cpu-seconds"}, {Name: "/cpu/classes/idle:cpu-seconds"}}
	metrics.Read(used)
	return time.Duration((used[0].Value.Float64() - used[1].Value.Float64()) * float64(time.Second))
}
