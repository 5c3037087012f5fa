// Health servers in Go for interop.py: `servers grpc LISTENER...` on grpc-go, `servers connect LISTENER...` on Connect.
// ../README.md says what they read and print.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"os"
	"strings"
	"time"
)

// A server of one library. All its listeners share the statuses of services.
type library interface {
	// serve makes a server that listens, where the library has what the kind of listener stands for.
	serve(kind string, listener net.Listener, config *tls.Config) (stop func(), err error)
	set(service, status string)
}

var errUnsupported = errors.New("the library has no such thing")

var libraries = map[string]func() library{"grpc": newGRPC, "connect": newConnect}

// refusals are the services that Check is not allowed for.
var refusals = map[string]struct{ code, message string }{
	"unauthenticated": {"unauthenticated", "no token"},
	"denied":          {"permission_denied", "not for you"},
}

// waits are the services that Check answers later.
var waits = map[string]time.Duration{"slow": 30 * time.Second, "late": 2500 * time.Millisecond}

// inspect reports a Check and waits as long as its service asks for, if the client waits as long.
func inspect(ctx context.Context, service string, metadata [][2]any) error {
	line := map[string]any{"service": service, "metadata": metadata}
	if deadline, ok := ctx.Deadline(); ok {
		line["timeout"] = time.Until(deadline).Seconds()
	}
	report(line)
	select {
	case <-time.After(waits[service]):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// report prints a line in one piece.
func report(line any) {
	text, err := json.Marshal(line)
	must(err)
	_, err = os.Stdout.Write(append(text, '\n'))
	must(err)
}

// shown is a value of metadata as a line has it.
func shown(name string, value []byte) [2]any {
	if strings.HasSuffix(name, "-bin") {
		return [2]any{name, map[string]string{"base64": base64.StdEncoding.EncodeToString(value)}}
	}
	return [2]any{name, string(value)}
}

// tlsConfig reads PREFIX or PREFIX:CA.
func tlsConfig(kind, files string) *tls.Config {
	if files == "" {
		return nil
	}
	prefix, ca, _ := strings.Cut(files, ":")
	pair, err := tls.LoadX509KeyPair(prefix+".pem", prefix+".key")
	must(err)
	config := &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}}
	if strings.HasSuffix(kind, "12") {
		config.MaxVersion = tls.VersionTLS12
	}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		must(err)
		config.ClientCAs = x509.NewCertPool()
		config.ClientCAs.AppendCertsFromPEM(pem)
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return config
}

// open serves a listener as the arguments name it. It returns the port, 0 for a socket, and how to stop it.
func open(library library, argument string, port int) (any, func()) {
	kind, rest, _ := strings.Cut(argument, ":")
	address, files := net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}, rest
	var listener net.Listener
	var err error
	if kind == "unix" {
		listener, err = net.Listen("unix", rest)
		files = ""
	} else {
		listener, err = net.ListenTCP("tcp", &address)
	}
	must(err)
	stop, err := library.serve(kind, listener, tlsConfig(kind, files))
	if errors.Is(err, errUnsupported) {
		must(listener.Close())
		return nil, nil
	}
	must(err)
	if tcp, ok := listener.Addr().(*net.TCPAddr); ok {
		return tcp.Port, stop
	}
	return 0, stop
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	library := libraries[os.Args[1]]()
	library.set("up", "SERVING")
	library.set(strings.Repeat("u", 300), "SERVING")
	library.set("down", "NOT_SERVING")
	var ports []any
	var stop func()
	var stoppable int
	for _, argument := range os.Args[2:] {
		port, stopIt := open(library, argument, 0)
		ports = append(ports, port)
		if argument == "stoppable" {
			stoppable, stop = port.(int), stopIt
		}
	}
	report(map[string]any{"ports": ports})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		line := lines.Text()
		if service, status, ok := strings.Cut(line, "="); ok {
			library.set(service, status)
		}
		switch line {
		case "stop":
			go func() {
				stop()
				report(map[string]bool{"stopped": true})
			}()
		case "start":
			_, stop = open(library, "stoppable", stoppable)
		}
		report(map[string]bool{"echo": true})
	}
}
