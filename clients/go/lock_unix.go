//go:build unix

package gateway

import (
	"os"
	"syscall"
)

// lock takes a file for this process alone; it ends with the process.
func lock(file *os.File) error {
	if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return errLocked
	}
	return nil
}
