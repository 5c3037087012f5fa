package main

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // Without it, grpc-go understands no compressed request.
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

type grpcGo struct {
	health *health.Server
}

func newGRPC() library {
	return &grpcGo{health.NewServer()}
}

func (library *grpcGo) set(service, status string) {
	value := grpc_health_v1.HealthCheckResponse_ServingStatus_value[status]
	library.health.SetServingStatus(service, grpc_health_v1.HealthCheckResponse_ServingStatus(value))
}

func (library *grpcGo) serve(kind string, listener net.Listener, config *tls.Config) (func(), error) {
	options := []grpc.ServerOption{grpc.UnaryInterceptor(inspectGRPC)}
	if config != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(config)))
	}
	switch kind {
	case "aged":
		options = append(options, grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: time.Second}))
	case "strict":
		options = append(options,
			grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Second, Timeout: time.Second}),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Hour}))
	}
	server := grpc.NewServer(options...)
	if kind != "bare" {
		grpc_health_v1.RegisterHealthServer(server, library.health)
	}
	go func() { must(server.Serve(listener)) }()
	return server.GracefulStop, nil
}

func inspectGRPC(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	check, ok := request.(*grpc_health_v1.HealthCheckRequest)
	if !ok {
		return handle(ctx, request)
	}
	incoming, _ := metadata.FromIncomingContext(ctx)
	var shownAll [][2]any
	for name, values := range incoming {
		for _, value := range values {
			shownAll = append(shownAll, shown(name, []byte(value)))
		}
	}
	if err := inspect(ctx, check.Service, shownAll); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	if refusal, ok := refusals[check.Service]; ok {
		code := map[string]codes.Code{"unauthenticated": codes.Unauthenticated, "permission_denied": codes.PermissionDenied}
		return nil, status.Error(code[refusal.code], refusal.message)
	}
	if wait := waits[check.Service]; wait > 0 {
		return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
	}
	return handle(ctx, request)
}
