package main

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
)

type connectGo struct {
	*grpchealth.StaticChecker
}

type headersKey struct{}

func newConnect() library {
	return &connectGo{grpchealth.NewStaticChecker("")}
}

func (library *connectGo) set(service, status string) {
	library.SetStatus(service, map[string]grpchealth.Status{
		"SERVING": grpchealth.StatusServing, "NOT_SERVING": grpchealth.StatusNotServing,
	}[status])
}

func (library *connectGo) Check(ctx context.Context, request *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	headers, _ := ctx.Value(headersKey{}).(http.Header)
	var shownAll [][2]any
	for name, values := range headers {
		name = strings.ToLower(name)
		for _, value := range values {
			raw := []byte(value)
			if strings.HasSuffix(name, "-bin") {
				raw, _ = base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
			}
			shownAll = append(shownAll, shown(name, raw))
		}
	}
	if err := inspect(ctx, request.Service, shownAll); err != nil {
		return nil, connect.NewError(connect.CodeDeadlineExceeded, err)
	}
	if refusal, ok := refusals[request.Service]; ok {
		var code connect.Code
		must(code.UnmarshalText([]byte(refusal.code)))
		return nil, connect.NewError(code, errors.New(refusal.message))
	}
	if wait := waits[request.Service]; wait > 0 {
		return &grpchealth.CheckResponse{Status: grpchealth.StatusServing}, nil
	}
	return library.StaticChecker.Check(ctx, request)
}

func (library *connectGo) serve(kind string, listener net.Listener, config *tls.Config) (func(), error) {
	mux := http.NewServeMux()
	if kind != "bare" {
		path, handler := grpchealth.NewHandler(library)
		mux.Handle(path, http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
			handler.ServeHTTP(writer, request.WithContext(context.WithValue(request.Context(), headersKey{}, request.Header)))
		}))
	}
	server := &http.Server{Handler: mux, TLSConfig: config, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	switch kind {
	case "aged":
		return nil, errUnsupported
	case "strict":
		server.HTTP2 = &http.HTTP2Config{SendPingTimeout: time.Second, PingTimeout: time.Second}
	}
	go func() {
		var err error
		if config == nil {
			err = server.Serve(listener)
		} else {
			err = server.ServeTLS(listener, "", "")
		}
		if !errors.Is(err, http.ErrServerClosed) {
			panic(err)
		}
	}()
	return func() { must(server.Shutdown(context.Background())) }, nil
}
