// A health server with the identity that a SPIFFE agent gives it. It accepts every client of a trust domain whose bundle
// it has. SIGUSR1 means NOT_SERVING, SIGUSR2 means SERVING. Each line on standard output is an event in JSON: "listening",
// "svid" for each new identity of its own, "client" for each client that it accepts.
package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"flag"
	"log"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
)

var output sync.Mutex

func tell(event map[string]string) {
	output.Lock()
	defer output.Unlock()
	if err := json.NewEncoder(os.Stdout).Encode(event); err != nil {
		log.Fatal(err)
	}
}

func tellCertificate(event string, id spiffeid.ID, certificate *x509.Certificate) {
	tell(map[string]string{
		event:    id.String(),
		"serial": certificate.SerialNumber.String(),
		"until":  certificate.NotAfter.Format(time.RFC3339),
	})
}

// Returns the identity and the bundles of the agent's first answer, or of its last one.
func sources(ctx context.Context, frozen bool) (x509svid.Source, x509bundle.Source, error) {
	if frozen {
		first, err := workloadapi.FetchX509Context(ctx)
		if err != nil {
			return nil, nil, err
		}
		svid := first.DefaultSVID()
		tellCertificate("svid", svid.ID, svid.Certificates[0])
		return svid, first.Bundles, nil
	}
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		return nil, nil, err
	}
	go func() {
		for {
			if svid, err := source.GetX509SVID(); err == nil {
				tellCertificate("svid", svid.ID, svid.Certificates[0])
			}
			if source.WaitUntilUpdated(ctx) != nil {
				return
			}
		}
	}()
	return source, source, nil
}

func main() {
	frozen := flag.Bool("frozen", false, "keep the first identity and the first bundles")
	maxAge := flag.Duration("max-connection-age", 0, "how soon to ask clients to connect again; 0: never")
	flag.Parse()

	svid, bundles, err := sources(context.Background(), *frozen)
	if err != nil {
		log.Fatal(err)
	}
	authorize := func(id spiffeid.ID, chains [][]*x509.Certificate) error {
		tellCertificate("client", id, chains[0][0])
		return nil
	}
	tls := tlsconfig.MTLSServerConfig(svid, bundles, authorize)
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(tls)),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: *maxAge}),
	)
	statuses := health.NewServer()
	grpc_health_v1.RegisterHealthServer(server, statuses)

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		for received := range signals {
			status := grpc_health_v1.HealthCheckResponse_SERVING
			if received == syscall.SIGUSR1 {
				status = grpc_health_v1.HealthCheckResponse_NOT_SERVING
			}
			statuses.SetServingStatus("", status)
		}
	}()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	tell(map[string]string{"listening": listener.Addr().String()})
	log.Fatal(server.Serve(listener))
}
