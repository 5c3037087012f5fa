// The least that an honest Health/Check costs as a process, to compare probes with.
//
//     floor 127.0.0.1:50051
//
// It asks over plaintext HTTP/2 on IPv4 loopback, and can do nothing else: the port is all it takes from the address,
// and every byte it sends is known beforehand. It says "status: SERVING" and exits with 0 only if the server has ended
// its answer, and the answer was one message that says so. What a probe must do besides, such as to decode the trailers
// or to tell what went wrong, is left out.

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DATA = 0, HEADERS = 1, RST_STREAM = 3, SETTINGS = 4, GOAWAY = 7 };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4 };
enum { FRAME_HEAD = 9 };

// A length of five bytes, then field 1 (status) = 1 (SERVING).
static const unsigned char SERVING[] = {0, 0, 0, 0, 2, 8, 1};

struct buffer {
    unsigned char bytes[32768];
    size_t length;
};

static void append(struct buffer *buffer, const void *bytes, size_t length) {
    memcpy(buffer->bytes + buffer->length, bytes, length);
    buffer->length += length;
}

// All frames that are sent are shorter than 256 bytes, on stream 0 or 1.
static void append_frame(struct buffer *buffer, int type, int flags, int stream, const void *payload, size_t length) {
    unsigned char head[FRAME_HEAD] = {0, 0, length, type, flags, 0, 0, 0, stream};
    append(buffer, head, sizeof head);
    append(buffer, payload, length);
}

// HPACK's simplest form: not indexed, not compressed.
static void append_header(struct buffer *buffer, const char *name, const char *value) {
    unsigned char literal = 0, name_length = strlen(name), value_length = strlen(value);
    append(buffer, &literal, 1);
    append(buffer, &name_length, 1);
    append(buffer, name, name_length);
    append(buffer, &value_length, 1);
    append(buffer, value, value_length);
}

static int connect_to(const char *address) {
    const char *colon = strrchr(address, ':');
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    peer.sin_port = htons(colon ? atoi(colon + 1) : 0);
    int yes = 1, connection = socket(AF_INET, SOCK_STREAM, 0);
    // The acknowledgement of SETTINGS must not wait for one of TCP's.
    setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    return connect(connection, (struct sockaddr *)&peer, sizeof peer) ? -1 : connection;
}

// The request need not wait for the server's SETTINGS, so that all of it is one write.
static int ask(int connection) {
    static struct buffer headers, request;
    append_header(&headers, ":method", "POST");
    append_header(&headers, ":scheme", "http");
    append_header(&headers, ":path", "/grpc.health.v1.Health/Check");
    append_header(&headers, ":authority", "localhost");
    append_header(&headers, "content-type", "application/grpc");
    append_header(&headers, "te", "trailers");

    const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    append(&request, preface, strlen(preface));
    append_frame(&request, SETTINGS, 0, 0, "", 0);
    append_frame(&request, HEADERS, END_HEADERS, 1, headers.bytes, headers.length);
    // A request without fields: uncompressed, of length 0.
    append_frame(&request, DATA, END_STREAM, 1, "\0\0\0\0\0", 5);
    return write(connection, request.bytes, request.length) == (ssize_t)request.length;
}

// Whether the answer, read to its end, is SERVING. What is malformed or broken off is not.
static int is_serving(int connection) {
    static struct buffer input, message;
    for (;;) {
        ssize_t got = read(connection, input.bytes + input.length, sizeof input.bytes - input.length);
        if (got <= 0) return 0;
        input.length += got;

        unsigned char *frame = input.bytes, *end = input.bytes + input.length;
        while (end - frame >= FRAME_HEAD) {
            size_t length = frame[0] << 16 | frame[1] << 8 | frame[2];
            if ((size_t)(end - frame) < FRAME_HEAD + length) break;
            int type = frame[3], flags = frame[4];
            if (type == RST_STREAM || type == GOAWAY) return 0;
            if (type == SETTINGS && !(flags & ACK)) {
                const unsigned char acknowledgement[FRAME_HEAD] = {0, 0, 0, SETTINGS, ACK};
                if (write(connection, acknowledgement, sizeof acknowledgement) < 0) return 0;
            }
            if (type == DATA) {
                if (message.length + length > sizeof SERVING) return 0;
                append(&message, frame + FRAME_HEAD, length);
            }
            if ((type == DATA || type == HEADERS) && flags & END_STREAM)
                return message.length == sizeof SERVING && !memcmp(message.bytes, SERVING, sizeof SERVING);
            frame += FRAME_HEAD + length;
        }
        // The begin of a frame is kept for the next read.
        input.length = end - frame;
        memmove(input.bytes, frame, input.length);
    }
}

int main(int count, char **arguments) {
    if (count != 2) return 2;
    int connection = connect_to(arguments[1]);
    if (connection < 0 || !ask(connection) || !is_serving(connection)) return 1;
    const char verdict[] = "status: SERVING\n";
    return write(STDOUT_FILENO, verdict, strlen(verdict)) < 0;
}
