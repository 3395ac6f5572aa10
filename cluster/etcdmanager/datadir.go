package etcdmanager

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

// LockFile is the file in a data directory that tells who has it.
func LockFile(dir string) string { return filepath.Join(dir, "goverse.lock") }

// EndpointIn is the etcd inside the process that uses the directory, as its lock file
// tells, if it still answers there.
func EndpointIn(dir string) (endpoint string, err error) {
	var lock struct {
		PID      int    `json:"pid"`
		Endpoint string `json:"endpoint"`
	}
	text, err := os.ReadFile(LockFile(dir))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("no program has its data in %s", dir)
	case err != nil:
		return "", fmt.Errorf("the data directory %s cannot be looked at: %w", dir, err)
	case json.Unmarshal(text, &lock) != nil || lock.PID != 0 && lock.Endpoint == "":
		return "", fmt.Errorf("the program that has its data in %s is still starting", dir)
	case lock.PID == 0:
		return "", fmt.Errorf("the program that has its data in %s is not running", dir)
	}
	c, err := net.DialTimeout("tcp", lock.Endpoint, time.Second)
	if err != nil {
		return "", fmt.Errorf("the program that has its data in %s died, or its etcd does not answer at %s", dir, lock.Endpoint)
	}
	c.Close()
	return lock.Endpoint, nil
}
