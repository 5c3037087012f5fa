package interop;

import io.grpc.BindableService;
import io.grpc.ServerInterceptors;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.protobuf.services.HealthStatusManager;
import io.grpc.servlet.jakarta.GrpcServlet;
import java.io.FileInputStream;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.List;
import java.util.Map;
import org.apache.catalina.connector.Connector;
import org.apache.coyote.http11.Http11NioProtocol;
import org.apache.coyote.http2.Http2Protocol;
import org.apache.tomcat.util.net.SSLHostConfig;
import org.apache.tomcat.util.net.SSLHostConfigCertificate;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.tomcat.TomcatWebServer;
import org.springframework.boot.web.server.servlet.context.ServletWebServerApplicationContext;
import org.springframework.boot.web.servlet.ServletRegistrationBean;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;

/** A health server on Spring Boot and Tomcat, with grpc-java's servlet. */
final class SpringBoot implements Protocol.Library {
    private static final HealthStatusManager HEALTH = new HealthStatusManager();
    private static final List<String> OWN_APPLICATION = List.of("plaintext", "bare", "stoppable");

    private ServletWebServerApplicationContext main;

    public static void main(String[] arguments) throws Exception {
        Protocol.run(new SpringBoot(), arguments);
    }

    @Override
    public void set(String service, String status) {
        HEALTH.setStatus(service, ServingStatus.valueOf(status));
    }

    @Override
    public Protocol.Listener open(String kind, String files, int port) throws Exception {
        // Tomcat has no such settings.
        if (List.of("aged", "strict").contains(kind)) {
            return null;
        }
        if (OWN_APPLICATION.contains(kind)) {
            var context = application(kind, port);
            if (kind.equals("plaintext")) {
                main = context;
            }
            return new Protocol.Listener(context.getWebServer().getPort(), context::close);
        }
        // An application takes long to start, so the others share the first one's.
        var service = ((TomcatWebServer) main.getWebServer()).getTomcat().getService();
        Connector connector = new Connector();
        connector.setProperty("address", "127.0.0.1");
        connector.setPort(0);
        configure(connector, kind, files);
        service.addConnector(connector);
        return new Protocol.Listener(Math.max(connector.getLocalPort(), 0), connector::stop);
    }

    private static ServletWebServerApplicationContext application(String kind, int port) {
        SpringApplication application = new SpringApplication(
                kind.equals("bare") ? new Class<?>[] {Web.class} : new Class<?>[] {Web.class, Health.class});
        application.setDefaultProperties(Map.of(
                "spring.main.banner-mode", "off",
                "spring.main.lazy-initialization", "true",
                "logging.level.root", "WARN",
                "server.port", String.valueOf(port),
                "server.address", "127.0.0.1",
                "server.http2.enabled", "true",
                "server.shutdown", "graceful"));
        return (ServletWebServerApplicationContext) application.run();
    }

    private static void configure(Connector connector, String kind, String files) throws Exception {
        connector.addUpgradeProtocol(new Http2Protocol());
        if (kind.equals("unix")) {
            connector.setProperty("unixDomainSocketPath", files);
        }
        if (!kind.startsWith("tls") && !kind.startsWith("mtls")) {
            return;
        }
        String[] parts = files.split(":");
        SSLHostConfig host = new SSLHostConfig();
        SSLHostConfigCertificate certificate = new SSLHostConfigCertificate(host, SSLHostConfigCertificate.Type.EC);
        certificate.setCertificateFile(parts[0] + ".pem");
        certificate.setCertificateKeyFile(parts[0] + ".key");
        host.addCertificate(certificate);
        if (parts.length > 1) {
            host.setTrustStore(trustStore(parts[1]));
            host.setCertificateVerification("required");
        }
        if (kind.endsWith("12")) {
            host.setProtocols("TLSv1.2");
        }
        ((Http11NioProtocol) connector.getProtocolHandler()).setSSLEnabled(true);
        connector.setSecure(true);
        connector.setScheme("https");
        connector.addSslHostConfig(host);
    }

    private static KeyStore trustStore(String file) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (var stream = new FileInputStream(file)) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(stream));
        }
        return store;
    }

    @Configuration
    @EnableAutoConfiguration
    static class Web {}

    @Configuration
    static class Health {
        @Bean
        ServletRegistrationBean<GrpcServlet> health() {
            BindableService service = () -> ServerInterceptors.intercept(
                    HEALTH.getHealthService(), Protocol.interceptor(Protocol::secondsOfContext));
            var registration =
                    new ServletRegistrationBean<>(new GrpcServlet(List.of(service)), "/grpc.health.v1.Health/*");
            registration.setAsyncSupported(true);
            return registration;
        }
    }
}
