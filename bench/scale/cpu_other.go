//go:build !unix

package main

import (
	"runtime/metrics"
	"time"
)

// cpuTime is about the processor time that this process has used, as Go counts it.
func cpuTime() time.Duration {
	used := []metrics.Sample{{Name: "/cpu/classes/total:cpu-seconds"}, {Name: "/cpu/classes/idle:cpu-seconds"}}
	metrics.Read(used)
	return time.Duration((used[0].Value.Float64() - used[1].Value.Float64()) * float64(time.Second))
}
