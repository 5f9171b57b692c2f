//go:build !unix

package gateway

import (
	"errors"
	"os"
)

// lock: without it two processes would send the same charges.
func lock(*os.File) error {
	return errors.New("files cannot be locked on this system")
}
