package interop;

import io.grpc.Context;
import io.grpc.ForwardingServerCallListener.SimpleForwardingServerCallListener;
import io.grpc.Metadata;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.Status;
import io.grpc.health.v1.HealthCheckRequest;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/** What the servers on Java have in common: ../../../README.md says what they read and print. */
final class Protocol {
    static final List<String> SERVING = List.of("up", "u".repeat(300));
    static final List<String> NOT_SERVING = List.of("down");

    private static final Map<String, Status> REFUSALS = Map.of(
            "unauthenticated", Status.UNAUTHENTICATED.withDescription("no token"),
            "denied", Status.PERMISSION_DENIED.withDescription("not for you"));
    static final Map<String, Long> WAITS = Map.of("slow", 30_000L, "late", 2_500L);
    private static final ScheduledExecutorService TIMER = Executors.newScheduledThreadPool(1, task -> {
        Thread thread = new Thread(task);
        thread.setDaemon(true);
        return thread;
    });
    // Loggers may take System.out; what is printed there is no line of ours.
    private static final PrintStream OUTPUT =
            new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);

    /** A server of one library. All its listeners share the statuses of services. */
    interface Library {
        /** Serves listeners as the arguments name them, or none where the library has no such thing. */
        Listener open(String kind, String files, int port) throws Exception;

        void set(String service, String status);
    }

    /** A port, 0 for a socket, and what stops the server in good order and waits for its end. */
    record Listener(int port, AutoCloseable stop) {}

    static void run(Library library, String[] arguments) throws Exception {
        SERVING.forEach(service -> library.set(service, "SERVING"));
        NOT_SERVING.forEach(service -> library.set(service, "NOT_SERVING"));
        WAITS.keySet().forEach(service -> library.set(service, "SERVING"));
        List<String> ports = new ArrayList<>();
        Listener stoppable = null;
        for (String argument : arguments) {
            Listener listener = open(library, argument, 0);
            ports.add(listener == null ? "null" : String.valueOf(listener.port()));
            if (argument.equals("stoppable")) {
                stoppable = listener;
            }
        }
        report("{\"ports\": [" + String.join(", ", ports) + "]}");
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            int equals = line.indexOf('=');
            if (equals >= 0) {
                library.set(line.substring(0, equals), line.substring(equals + 1));
            } else if (line.equals("stop")) {
                AutoCloseable stop = stoppable.stop();
                new Thread(() -> {
                    try {
                        stop.close();
                        report("{\"stopped\": true}");
                    } catch (Exception e) {
                        e.printStackTrace();
                    }
                }).start();
            } else if (line.equals("start")) {
                stoppable = open(library, "stoppable", stoppable.port());
            }
            report("{\"echo\": true}");
        }
        Runtime.getRuntime().halt(0);
    }

    private static Listener open(Library library, String argument, int port) throws Exception {
        String[] parts = argument.split(":", 2);
        return library.open(parts[0], parts.length > 1 ? parts[1] : "", port);
    }

    static synchronized void report(String line) {
        OUTPUT.println(line);
    }

    /** Reports each Check, and refuses it or waits, as its service asks for. */
    static ServerInterceptor interceptor(Supplier<Double> secondsLeft) {
        return new ServerInterceptor() {
            @Override
            public <Q, A> ServerCall.Listener<Q> interceptCall(
                    ServerCall<Q, A> call, Metadata metadata, ServerCallHandler<Q, A> next) {
                if (!call.getMethodDescriptor().getBareMethodName().equals("Check")) {
                    return next.startCall(call, metadata);
                }
                return new Inspected<>(next.startCall(call, metadata), call, metadata, secondsLeft.get());
            }
        };
    }

    static Double secondsOfContext() {
        var deadline = Context.current().getDeadline();
        return deadline == null ? null : deadline.timeRemaining(TimeUnit.MICROSECONDS) / 1e6;
    }

    private static final class Inspected<Q, A> extends SimpleForwardingServerCallListener<Q> {
        private final ServerCall<Q, A> call;
        private final Metadata metadata;
        private final Double secondsLeft;
        private String service = "";
        private boolean isOver;

        Inspected(ServerCall.Listener<Q> delegate, ServerCall<Q, A> call, Metadata metadata, Double secondsLeft) {
            super(delegate);
            this.call = call;
            this.metadata = metadata;
            this.secondsLeft = secondsLeft;
        }

        @Override
        public void onMessage(Q message) {
            service = ((HealthCheckRequest) message).getService();
            report(String.format(
                    "{\"service\": %s, \"timeout\": %s, \"metadata\": %s}",
                    quoted(service), secondsLeft, shown(metadata)));
            Status refusal = REFUSALS.get(service);
            if (refusal != null) {
                isOver = true;
                call.close(refusal, new Metadata());
            } else {
                super.onMessage(message);
            }
        }

        @Override
        public void onHalfClose() {
            if (isOver) {
                return;
            }
            Long wait = WAITS.get(service);
            if (wait == null) {
                super.onHalfClose();
            } else {
                TIMER.schedule(Context.current().wrap(this::answer), wait, TimeUnit.MILLISECONDS);
            }
        }

        private synchronized void answer() {
            if (!isOver) {
                super.onHalfClose();
            }
        }

        @Override
        public synchronized void onCancel() {
            isOver = true;
            super.onCancel();
        }
    }

    private static String shown(Metadata metadata) {
        List<String> entries = new ArrayList<>();
        for (String name : metadata.keys()) {
            if (name.endsWith(Metadata.BINARY_HEADER_SUFFIX)) {
                for (byte[] value : metadata.getAll(Metadata.Key.of(name, Metadata.BINARY_BYTE_MARSHALLER))) {
                    String base64 = Base64.getEncoder().encodeToString(value);
                    entries.add("[" + quoted(name) + ", {\"base64\": " + quoted(base64) + "}]");
                }
            } else if (!name.startsWith(":")) {
                for (String value : metadata.getAll(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER))) {
                    entries.add("[" + quoted(name) + ", " + quoted(value) + "]");
                }
            }
        }
        return "[" + String.join(", ", entries) + "]";
    }

    private static String quoted(String text) {
        StringBuilder quoted = new StringBuilder("\"");
        text.chars().forEach(c -> {
            if (c == '"' || c == '\\') {
                quoted.append('\\').append((char) c);
            } else if (c < ' ' || c > '~') {
                quoted.append(String.format("\\u%04x", c));
            } else {
                quoted.append((char) c);
            }
        });
        return quoted.append('"').toString();
    }

    private Protocol() {}
}
