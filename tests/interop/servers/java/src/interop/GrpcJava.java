package interop;

import io.grpc.Server;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.netty.shaded.io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.netty.shaded.io.netty.channel.epoll.EpollEventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.epoll.EpollServerDomainSocketChannel;
import io.grpc.netty.shaded.io.netty.channel.unix.DomainSocketAddress;
import io.grpc.netty.shaded.io.netty.handler.ssl.ClientAuth;
import io.grpc.netty.shaded.io.netty.handler.ssl.SslContextBuilder;
import io.grpc.protobuf.services.HealthStatusManager;
import java.io.File;
import java.net.InetSocketAddress;
import java.util.concurrent.TimeUnit;

/** A health server on grpc-java. */
final class GrpcJava implements Protocol.Library {
    private final HealthStatusManager health = new HealthStatusManager();

    public static void main(String[] arguments) throws Exception {
        Protocol.run(new GrpcJava(), arguments);
    }

    @Override
    public void set(String service, String status) {
        health.setStatus(service, ServingStatus.valueOf(status));
    }

    @Override
    public Protocol.Listener open(String kind, String files, int port) throws Exception {
        NettyServerBuilder builder = kind.equals("unix")
                ? NettyServerBuilder.forAddress(new DomainSocketAddress(files))
                        .channelType(EpollServerDomainSocketChannel.class)
                        .bossEventLoopGroup(new EpollEventLoopGroup(1))
                        .workerEventLoopGroup(new EpollEventLoopGroup(1))
                : NettyServerBuilder.forAddress(new InetSocketAddress("127.0.0.1", port));
        if (kind.startsWith("tls") || kind.startsWith("mtls")) {
            String[] parts = files.split(":");
            SslContextBuilder context =
                    SslContextBuilder.forServer(new File(parts[0] + ".pem"), new File(parts[0] + ".key"));
            if (parts.length > 1) {
                context.trustManager(new File(parts[1])).clientAuth(ClientAuth.REQUIRE);
            }
            GrpcSslContexts.configure(context);
            if (kind.endsWith("12")) {
                context.protocols("TLSv1.2");
            }
            builder.sslContext(context.build());
        } else if (kind.equals("aged")) {
            builder.maxConnectionAge(1, TimeUnit.SECONDS);
        } else if (kind.equals("strict")) {
            builder.keepAliveTime(1, TimeUnit.SECONDS)
                    .keepAliveTimeout(1, TimeUnit.SECONDS)
                    .permitKeepAliveTime(1, TimeUnit.HOURS);
        }
        if (!kind.equals("bare")) {
            builder.addService(health.getHealthService()).intercept(Protocol.interceptor(Protocol::secondsOfContext));
        }
        Server server = builder.build().start();
        return new Protocol.Listener(Math.max(server.getPort(), 0), () -> server.shutdown().awaitTermination());
    }
}
