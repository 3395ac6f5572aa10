package child

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
)

// ProfileVar names the environment variable with the directory that each process of a
// benchmark writes a profile to: where its processor time went, for go tool pprof. The
// directory exists; empty: no profiles.
const ProfileVar = "GOVERSE_BENCH_PROFILE"

// Profiled calls f and writes the profile of meanwhile, if there is to be one, as
// NAME-PID.prof. A child's Serve does that by itself.
func Profiled(name string, f func() error) (err error) {
	dir := os.Getenv(ProfileVar)
	if dir == "" {
		return f()
	}
	name = fmt.Sprintf("%s-%d.prof", strings.ReplaceAll(name, ":", "-"), os.Getpid())
	file, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		return fmt.Errorf("%s has to be a directory that is there: %w", ProfileVar, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := pprof.StartCPUProfile(file); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	return f()
}
