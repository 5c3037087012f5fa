// A health server by grpc-go behind ALTS. Arguments: its address, and that of its handshaker service. It prints a line when it
// listens.
package main

import (
	"fmt"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/alts"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

func main() {
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		panic(err)
	}
	options := alts.DefaultServerOptions()
	options.HandshakerServiceAddress = os.Args[2]
	server := grpc.NewServer(grpc.Creds(alts.NewServerCreds(options)))
	services := health.NewServer()
	services.SetServingStatus("up", grpc_health_v1.HealthCheckResponse_SERVING)
	services.SetServingStatus("down", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	grpc_health_v1.RegisterHealthServer(server, services)
	fmt.Println("listening")
	panic(server.Serve(listener))
}
