package interop;

import com.linecorp.armeria.common.SessionProtocol;
import com.linecorp.armeria.common.util.DomainSocketAddress;
import com.linecorp.armeria.server.Server;
import com.linecorp.armeria.server.ServerBuilder;
import com.linecorp.armeria.server.ServiceRequestContext;
import com.linecorp.armeria.server.grpc.GrpcHealthCheckService;
import com.linecorp.armeria.server.grpc.GrpcService;
import com.linecorp.armeria.server.healthcheck.SettableHealthChecker;
import io.netty.handler.ssl.ClientAuth;
import java.io.File;
import java.net.InetSocketAddress;
import java.time.Duration;
import java.util.Map;
import java.util.TreeMap;

/** A health server on Armeria, with Armeria's own health service. */
final class Armeria implements Protocol.Library {
    private final Map<String, SettableHealthChecker> checkers = new TreeMap<>();

    private Armeria() {
        // Armeria wants to know all services before it serves.
        Protocol.SERVING.forEach(service -> checkers.put(service, new SettableHealthChecker(true)));
        Protocol.NOT_SERVING.forEach(service -> checkers.put(service, new SettableHealthChecker(false)));
        Protocol.WAITS.keySet().forEach(service -> checkers.put(service, new SettableHealthChecker(true)));
        checkers.put("changing", new SettableHealthChecker(false));
    }

    public static void main(String[] arguments) throws Exception {
        Protocol.run(new Armeria(), arguments);
    }

    @Override
    public void set(String service, String status) {
        checkers.get(service).setHealthy(status.equals("SERVING"));
    }

    @Override
    public Protocol.Listener open(String kind, String files, int port) {
        ServerBuilder builder = Server.builder();
        boolean isSecure = kind.startsWith("tls") || kind.startsWith("mtls");
        builder.port(
                kind.equals("unix") ? DomainSocketAddress.of(new File(files).toPath()) : new InetSocketAddress("127.0.0.1", port),
                isSecure ? SessionProtocol.HTTPS : SessionProtocol.HTTP);
        if (isSecure) {
            String[] parts = files.split(":");
            builder.tls(new File(parts[0] + ".pem"), new File(parts[0] + ".key"));
            builder.tlsCustomizer(context -> {
                if (parts.length > 1) {
                    context.trustManager(new File(parts[1])).clientAuth(ClientAuth.REQUIRE);
                }
                if (kind.endsWith("12")) {
                    context.protocols("TLSv1.2");
                }
            });
        } else if (kind.equals("aged")) {
            builder.maxConnectionAge(Duration.ofSeconds(1));
        } else if (kind.equals("strict")) {
            builder.pingInterval(Duration.ofSeconds(1));
        }
        // Armeria takes new requests, and with them new watches, until this is over.
        builder.gracefulShutdownTimeout(Duration.ofMillis(100), Duration.ofSeconds(1));
        if (kind.equals("bare")) {
            builder.service("/", (context, request) -> com.linecorp.armeria.common.HttpResponse.of(200));
        } else {
            var health = GrpcHealthCheckService.builder();
            checkers.forEach(health::serviceCheckers);
            builder.service(GrpcService.builder()
                    .addService(health.build())
                    .intercept(Protocol.interceptor(Armeria::secondsLeft))
                    .build());
        }
        Server server = builder.build();
        server.start().join();
        return new Protocol.Listener(
                kind.equals("unix") ? 0 : server.activeLocalPort(), () -> server.stop().join());
    }

    private static Double secondsLeft() {
        return ServiceRequestContext.current().requestTimeoutMillis() / 1e3;
    }
}
