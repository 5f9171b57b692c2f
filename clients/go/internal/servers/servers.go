// Package servers starts private servers for the tests, on free ports of this machine, in directories that go with them.
package servers

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// root is the repository's: above the package whose tests run.
func root() string {
	directory, err := os.Getwd()
	if err != nil {
		return ""
	}
	for ; !exists(filepath.Join(directory, "clients", "spec")); directory = filepath.Dir(directory) {
		if directory == filepath.Dir(directory) {
			return ""
		}
	}
	return directory
}

// module is the module's library: what GW_MODULE names, else the release build.
func module() string {
	if named := os.Getenv("GW_MODULE"); named != "" {
		return named
	}
	target := os.Getenv("CARGO_TARGET_DIR")
	if target == "" {
		target = filepath.Join(root(), "target")
	}
	return filepath.Join(target, "release", "libredis_gateway.so")
}

// binary is the server that GW_SERVER names, by the rules of scripts/lib.sh.
func binary() string {
	name := os.Getenv("GW_SERVER")
	if name == "" {
		name = "system"
	}
	if strings.Contains(name, "/") {
		return name
	}
	if name == "system" {
		if found, err := exec.LookPath("redis-server"); err == nil {
			return found
		}
	}
	for _, program := range []string{"redis-server", "valkey-server"} {
		if place := filepath.Join(root(), ".servers", name, program); exists(place) {
			return place
		}
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Options are how a server is started.
type Options struct {
	// Arguments are those of its command line.
	Arguments []string

	// Sentinel starts a sentinel instead of a server.
	Sentinel bool

	// WithoutModule starts it without the module.
	WithoutModule bool

	// Optional: the test is skipped if this server does not know the arguments.
	Optional bool
}

// Server is a process with the module. Stop and Start keep its port and its directory.
type Server struct {
	Port      int
	Bus       int // Of a cluster's node.
	Directory string

	t       testing.TB
	options Options
	process *exec.Cmd
	ended   chan struct{}
}

// Start starts a server that ends with the test. The test is skipped if this machine has no server or no module.
func Start(t testing.TB, options Options) *Server {
	t.Helper()
	if binary() == "" {
		t.Skipf("there is no server %s", os.Getenv("GW_SERVER"))
	}
	if !exists(module()) {
		t.Skipf("there is no module at %s: build it, or name it with GW_MODULE", module())
	}
	directory, err := os.MkdirTemp("", "gw-clients-")
	if err != nil {
		t.Fatal(err)
	}
	server := &Server{t: t, Directory: directory, options: options}
	t.Cleanup(func() {
		server.Stop()
		os.RemoveAll(directory)
	})
	for range 20 {
		server.Port = FreePort(t)
		if server.start() {
			return server
		}
	}
	t.Fatal("no port is free")
	return nil
}

// FreePort is below the ports that the kernel gives to clients.
func FreePort(t testing.TB) int {
	t.Helper()
	for {
		port := 20_001 + rand.IntN(12_000)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			listener.Close()
			return port
		}
	}
}

// Start starts it again.
func (s *Server) Start() {
	s.t.Helper()
	if !s.start() {
		s.t.Fatal("the server's port is taken")
	}
}

// start returns false if another process has taken the port meanwhile.
func (s *Server) start() bool {
	s.t.Helper()
	words := []string{"--port", strconv.Itoa(s.Port), "--bind", "127.0.0.1", "--dir", s.Directory, "--save", ""}
	words = append(words, s.options.Arguments...)
	if !s.options.WithoutModule {
		words = append(words, "--loadmodule", module())
	}
	if s.options.Sentinel {
		config := filepath.Join(s.Directory, "sentinel.conf")
		if !exists(config) {
			text := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\n", s.Port, s.Directory)
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				s.t.Fatal(err)
			}
		}
		words = []string{config, "--sentinel"}
	}
	name := filepath.Join(s.Directory, "log")
	log, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	process := exec.Command(binary(), words...)
	process.Stdout, process.Stderr = log, log
	// Or it would outlive a test that is killed.
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ended := make(chan struct{})
	started := make(chan error)
	go func() {
		// The signal above comes when the thread that has started it ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		started <- process.Start()
		if process.Process != nil {
			process.Wait()
		}
		close(ended)
	}()
	if err := <-started; err != nil {
		s.t.Fatal(err)
	}
	s.process, s.ended = process, ended
	admin := s.Admin()
	defer admin.Close()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if admin.Ping(context.Background()).Err() == nil {
			return true
		}
		select {
		case <-ended:
		default:
			if time.Now().Before(end) {
				continue
			}
		}
		s.Stop()
		text, _ := os.ReadFile(name)
		if bytes.Contains(text, []byte("Address already in use")) {
			return false
		}
		if s.options.Optional {
			s.t.Skipf("this server does not know %v", s.options.Arguments)
		}
		s.t.Fatalf("the server has not started:\n%s", text)
	}
}

// Address is where it listens.
func (s *Server) Address() string { return fmt.Sprintf("127.0.0.1:%d", s.Port) }

// Client is an application's client of it, with the settings of go-redis itself.
func (s *Server) Client() *redis.Client {
	client := redis.NewClient(&redis.Options{Addr: s.Address()})
	s.t.Cleanup(func() { client.Close() })
	return client
}

// Admin is a client for the test itself, which waits as long as it takes. Whoever asks for it closes it.
func (s *Server) Admin() *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: s.Address(), Protocol: 2, MaxRetries: -1, ReadTimeout: 30 * time.Second, DisableIdentity: true, DialerRetries: 1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// Run sends a command, such as `CONFIG SET maxmemory 1`, and returns the reply.
func (s *Server) Run(command string) any {
	s.t.Helper()
	admin := s.Admin()
	defer admin.Close()
	var words []any
	for _, word := range strings.Fields(command) {
		words = append(words, word)
	}
	reply, err := admin.Do(context.Background(), words...).Result()
	if err != nil && err != redis.Nil {
		s.t.Fatalf("%s: %v", command, err)
	}
	return reply
}

// Freeze stops the process, but the kernel takes what is sent to it. Thaw lets it go on.
func (s *Server) Freeze() { s.signal(syscall.SIGSTOP) }

// Thaw lets a frozen process go on.
func (s *Server) Thaw() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(number syscall.Signal) {
	s.t.Helper()
	if err := s.process.Process.Signal(number); err != nil {
		s.t.Fatal(err)
	}
}

// Stop kills it.
func (s *Server) Stop() {
	if s.process != nil {
		s.process.Process.Kill()
		<-s.ended
		s.process = nil
	}
}

// Cluster starts primaries that share the slots.
func Cluster(t testing.TB, nodes int) []*Server {
	t.Helper()
	found := make([]*Server, nodes)
	share := 16_384 / nodes
	for at := range found {
		bus := FreePort(t)
		arguments := []string{"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus), "--cluster-node-timeout", "20000"}
		found[at] = Start(t, Options{Arguments: arguments})
		found[at].Bus = bus
		last := (at+1)*share - 1
		if at == nodes-1 {
			last = 16_383
		}
		found[at].Run(fmt.Sprintf("CLUSTER ADDSLOTSRANGE %d %d", at*share, last))
		found[at].Run(fmt.Sprintf("CLUSTER SET-CONFIG-EPOCH %d", at+1))
	}
	for _, server := range found[1:] {
		server.Run(fmt.Sprintf("CLUSTER MEET 127.0.0.1 %d %d", found[0].Port, found[0].Bus))
	}
	for _, server := range found {
		Eventually(t, "the cluster is complete", func() bool {
			whole := strings.Contains(fmt.Sprint(server.Run("CLUSTER INFO")), "cluster_state:ok")
			return whole && strings.Count(fmt.Sprint(server.Run("CLUSTER SLOTS")), "127.0.0.1") >= nodes
		})
	}
	return found
}

// Eventually waits until something is true.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it did not come true: %s", what)
		}
	}
}
