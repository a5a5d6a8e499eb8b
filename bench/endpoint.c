/* The token endpoint of the benchmarks: an authorization server, a PDS and a PLC directory in one
 * process that is never the limit of what is measured against it.
 *
 *     endpoint [-issuers N] [-lifetime SECONDS] [-sessions N] [-host NAME] [-tls CERTIFICATE KEY]
 *
 * Listens on loopback, on ports that the kernel chooses: one per issuer, which is a PDS too, and one
 * for /statistics and the PLC directory, which speaks plain HTTP always. When it is ready it prints
 * one line of JSON: {"admin": PORT, "issuers": [PORT, ...]}. It ends when its standard input does.
 *
 * What it does as the reference server does, because a client pays for it: metadata of RFC 8414 and
 * RFC 9728, answers in chunks behind the reference server's header fields, refresh tokens that are
 * used once, access tokens of the same size, `use_dpop_nonce` (RFC 9449) until a proof holds the
 * nonce, which stays the same. What it leaves out, because only the server pays for it: it stores
 * nothing and verifies no signature. The clients that are measured are known to be honest.
 *
 * A refresh token is "ref-", 24 decimal digits (the session), 8 hexadecimal digits (its generation)
 * and 32 characters of no meaning. Whatever is not the session's newest generation is a replay: it is
 * counted and refused. The DID of session 12 is did:plc:aaaaaaaaaaaaaaaaaaaaaabc: digits as letters.
 *
 * One thread, epoll, connections kept alive, one request after the other on each.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LARGEST_REQUEST = 16384, LARGEST_ANSWER = 16384, LARGEST_BODY = 4096, SESSION_DIGITS = 24 };

#define NONCE "bm9uY2Utb2YtdGhlLWJlbmNobWFyay10aGF0LXN0YXlz"
#define WITH_NONCE "DPoP-Nonce: " NONCE "\r\nAccess-Control-Expose-Headers: DPoP-Nonce\r\n"

static struct {
    unsigned long requests, tokens, replays, connections, nonces_asked, discoveries, documents, calls, bad;
} count;

static int issuers = 1, lifetime = 3600, admin_port, poller;
static int *issuer_ports;
static unsigned long sessions = 2000000;
static uint32_t *newest; /* the generation of each session's newest refresh token */
static const char *host = "127.0.0.1";
static SSL_CTX *tls;

static time_t now;
static char date[64]; /* now, for the Date header field; made once a second */

struct connection {
    int fd, port;
    bool is_listener, is_secured;
    SSL *ssl;
    char *in, *out;
    int received, to_send, sent;
};

static void die(const char *what) {
    perror(what);
    exit(1);
}

/* Encodings ---------------------------------------------------------------------------------- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
static signed char value_of[256]; /* of a character of the alphabet; -1: none */

static void base64url(const unsigned char *from, int length, char *to) {
    int i = 0;
    for (; i + 2 < length; i += 3) {
        unsigned v = from[i] << 16 | from[i + 1] << 8 | from[i + 2];
        *to++ = alphabet[v >> 18], *to++ = alphabet[v >> 12 & 63];
        *to++ = alphabet[v >> 6 & 63], *to++ = alphabet[v & 63];
    }
    if (length > i) {
        unsigned v = from[i] << 16 | (length - i == 2 ? from[i + 1] << 8 : 0);
        *to++ = alphabet[v >> 18], *to++ = alphabet[v >> 12 & 63];
        if (length - i == 2) *to++ = alphabet[v >> 6 & 63];
    }
    *to = 0;
}

/* Decodes up to the first character that does not belong, a token's dot. */
static void from_base64url(const char *from, int length, char *to, int room) {
    unsigned v = 0;
    int bits = 0;
    for (int i = 0; i < length && value_of[(unsigned char)from[i]] >= 0 && room > 1; i++) {
        v = v << 6 | (unsigned)value_of[(unsigned char)from[i]];
        if ((bits += 6) >= 8) bits -= 8, *to++ = (char)(v >> bits & 255), room--;
    }
    *to = 0;
}

static uint64_t random_bits(void) { /* xorshift: they only have to differ */
    static uint64_t state;
    if (!state) state = (uint64_t)time(0) * 2654435761u + (uint64_t)getpid();
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

static void did_of(unsigned long session, char *to) {
    sprintf(to, "did:plc:%0*lu", SESSION_DIGITS, session);
    for (char *c = to + 8; *c; c++) *c = (char)(*c - '0' + 'a');
}

static unsigned long session_of(const char *letters) {
    unsigned long session = 0;
    for (; *letters >= 'a' && *letters <= 'j'; letters++) session = session * 10 + (unsigned long)(*letters - 'a');
    return session;
}

static void origin_of(int port, char *to) { sprintf(to, "%s://%s:%d", tls ? "https" : "http", host, port); }

/* Answers ------------------------------------------------------------------------------------ */

static void answer(struct connection *c, const char *status, const char *fields, bool chunked, const char *format, ...) {
    static char body[LARGEST_BODY];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(body, sizeof body, format, arguments);
    va_end(arguments);
    char framing[64];
    if (chunked) sprintf(framing, "Transfer-Encoding: chunked\r\n\r\n%x\r\n", length);
    else sprintf(framing, "Content-Length: %d\r\n\r\n", length);
    c->sent = 0;
    c->to_send = sprintf(c->out,
        "HTTP/1.1 %s\r\nX-Powered-By: Express\r\nAccess-Control-Max-Age: 86400\r\n"
        "Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Methods: *\r\n"
        "Access-Control-Allow-Headers: Content-Type,DPoP\r\nCache-Control: no-store\r\nPragma: no-cache\r\n"
        "%sContent-Type: application/json\r\nVary: Accept-Encoding\r\nDate: %s\r\n"
        "Connection: keep-alive\r\nKeep-Alive: timeout=90\r\n%s%s%s",
        status, fields, date, framing, body, chunked ? "\r\n0\r\n\r\n" : "");
}

static void refuse(struct connection *c, const char *error, const char *description) {
    answer(c, "400 Bad Request", WITH_NONCE, true, "{\"error\":\"%s\",\"error_description\":\"%s\"}", error, description);
}

/* The value of a header field; 0: there is none. `head` is terminated by an empty line. */
static const char *field(const char *head, const char *name, int *length) {
    size_t n = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line && line[2] != '\r'; line = strstr(line + 2, "\r\n"))
        if (!strncasecmp(line + 2, name, n) && line[2 + n] == ':') {
            const char *value = line + 3 + n;
            value += strspn(value, " ");
            *length = (int)(strstr(value, "\r\n") - value);
            return value;
        }
    return 0;
}

/* What a DPoP proof says: the thumbprint of its key (RFC 7638), and whether it holds the nonce. */
static bool read_proof(const char *proof, int length, char *thumbprint) {
    char head[2048], claims[4096];
    const char *dot = memchr(proof, '.', (size_t)length);
    if (!dot) return false;
    from_base64url(proof, (int)(dot - proof), head, sizeof head);
    from_base64url(dot + 1, (int)(proof + length - dot - 1), claims, sizeof claims);
    char *x = strstr(head, "\"x\":\""), *y = strstr(head, "\"y\":\"");
    if (x && y) {
        char key[256];
        unsigned char digest[SHA256_DIGEST_LENGTH];
        int n = sprintf(key, "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"%.43s\",\"y\":\"%.43s\"}", x + 5, y + 5);
        base64url(SHA256((unsigned char *)key, (size_t)n, digest), sizeof digest, thumbprint);
    }
    return strstr(claims, NONCE) != 0;
}

/* POST /oauth/token, grant_type=refresh_token (RFC 6749, section 6) */
static void token(struct connection *c, const char *head, const char *body) {
    char thumbprint[64] = "", origin[128], did[64], claims[2048], encoded[4096], signature[96];
    int length = 0;
    const char *proof = field(head, "DPoP", &length);
    if (!proof || !read_proof(proof, length, thumbprint)) {
        count.nonces_asked++;
        refuse(c, "use_dpop_nonce", "Authorization server requires nonce in DPoP proof");
        return;
    }
    unsigned long session;
    uint32_t generation;
    const char *sent = strstr(body, "refresh_token=ref-");
    if (!sent || sscanf(sent + 18, "%24lu%8x", &session, &generation) != 2 || session >= sessions) {
        count.bad++;
        refuse(c, "invalid_grant", "Invalid refresh token");
        return;
    }
    if (generation != newest[session]) {
        count.replays++;
        refuse(c, "invalid_grant", "Refresh token replayed");
        return;
    }
    newest[session]++;
    count.tokens++;
    origin_of(c->port, origin);
    did_of(session, did);
    int n = sprintf(claims,
        "{\"aud\":\"did:web:localhost\",\"iat\":%ld,\"exp\":%ld,\"sub\":\"%s\",\"jti\":\"tok-%016lx%016lx\","
        "\"cnf\":{\"jkt\":\"%s\"},\"client_id\":\"http://localhost?redirect_uri=http%%3A%%2F%%2F127.0.0.1%%2F"
        "callback&scope=atproto%%20transition%%3Ageneric\",\"scope\":\"atproto transition:generic\",\"iss\":\"%s\"}",
        (long)now, (long)now + lifetime, did, random_bits(), random_bits(), thumbprint, origin);
    base64url((unsigned char *)claims, n, encoded);
    uint64_t bits[8];
    for (int i = 0; i < 8; i++) bits[i] = random_bits();
    base64url((unsigned char *)bits, sizeof bits, signature);
    answer(c, "200 OK", WITH_NONCE, true,
        "{\"access_token\":\"eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJFUzI1NksifQ.%s.%s\",\"token_type\":\"DPoP\","
        "\"refresh_token\":\"ref-%0*lu%08x%016lx%016lx\",\"scope\":\"atproto transition:generic\","
        "\"expires_in\":%d,\"sub\":\"%s\"}",
        encoded, signature, SESSION_DIGITS, session, newest[session], random_bits(), random_bits(), lifetime, did);
}

/* The metadata of the authorization server (RFC 8414) */
static void metadata(struct connection *c, const char *origin) {
    answer(c, "200 OK", "", false,
        "{\"issuer\":\"%s\",\"scopes_supported\":[\"atproto\",\"transition:generic\"],"
        "\"subject_types_supported\":[\"public\"],\"response_types_supported\":[\"code\"],"
        "\"response_modes_supported\":[\"query\",\"fragment\",\"form_post\"],"
        "\"grant_types_supported\":[\"authorization_code\",\"refresh_token\"],"
        "\"code_challenge_methods_supported\":[\"S256\"],\"authorization_response_iss_parameter_supported\":true,"
        "\"authorization_endpoint\":\"%s/oauth/authorize\",\"token_endpoint\":\"%s/oauth/token\","
        "\"token_endpoint_auth_methods_supported\":[\"none\",\"private_key_jwt\"],"
        "\"token_endpoint_auth_signing_alg_values_supported\":[\"ES256\",\"ES256K\"],"
        "\"revocation_endpoint\":\"%s/oauth/revoke\","
        "\"pushed_authorization_request_endpoint\":\"%s/oauth/par\",\"require_pushed_authorization_requests\":true,"
        "\"dpop_signing_alg_values_supported\":[\"ES256\",\"ES256K\"],\"client_id_metadata_document_supported\":true}",
        origin, origin, origin, origin, origin);
}

/* A call of the PDS: answers as com.atproto.server.getSession, for the access token's subject. */
static void call(struct connection *c, const char *head) {
    char claims[4096] = "", did[64] = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";
    int length;
    const char *authorization = field(head, "Authorization", &length);
    const char *dot = authorization ? memchr(authorization, '.', (size_t)length) : 0;
    if (dot) from_base64url(dot + 1, (int)(authorization + length - dot - 1), claims, sizeof claims);
    const char *subject = strstr(claims, "\"sub\":\"");
    if (subject) sscanf(subject + 7, "%63[^\"]", did);
    answer(c, "200 OK", WITH_NONCE, true, "{\"did\":\"%s\",\"handle\":\"u%lu.test\",\"active\":true}", did, session_of(did + 8));
}

static void statistics(struct connection *c) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    answer(c, "200 OK", "", false,
        "{\"requests\":%lu,\"tokens\":%lu,\"replays\":%lu,\"connections\":%lu,\"nonces_asked\":%lu,"
        "\"discoveries\":%lu,\"documents\":%lu,\"calls\":%lu,\"bad\":%lu,\"cpu\":%.6f}",
        count.requests, count.tokens, count.replays, count.connections, count.nonces_asked, count.discoveries,
        count.documents, count.calls, count.bad, cpu);
}

/* GET /did:plc:..., the PLC directory: session n lives at issuer n modulo their number. */
static void document(struct connection *c, const char *letters) {
    char did[64], origin[128];
    unsigned long session = session_of(letters);
    did_of(session, did);
    origin_of(issuer_ports[session % (unsigned long)issuers], origin);
    count.documents++;
    answer(c, "200 OK", "", false,
        "{\"@context\":[\"https://www.w3.org/ns/did/v1\"],\"id\":\"%s\",\"alsoKnownAs\":[\"at://u%lu.test\"],"
        "\"verificationMethod\":[],\"service\":[{\"id\":\"#atproto_pds\",\"type\":\"AtprotoPersonalDataServer\","
        "\"serviceEndpoint\":\"%s\"}]}",
        did, session, origin);
}

static bool starts(const char *text, const char *with) { return !strncmp(text, with, strlen(with)); }

static void handle(struct connection *c, const char *head, const char *body) {
    char origin[128];
    origin_of(c->port, origin);
    if (c->port == admin_port) {
        if (starts(head, "GET /statistics ")) { statistics(c); return; }
        if (starts(head, "GET /did:plc:")) { document(c, head + 13); return; }
        if (starts(head, "GET /did%3Aplc%3A")) { document(c, head + 17); return; }
    }
    count.requests++;
    if (starts(head, "POST /oauth/token ")) token(c, head, body);
    else if (starts(head, "GET /.well-known/oauth-protected-resource ")) {
        count.discoveries++;
        answer(c, "200 OK", "", false, "{\"resource\":\"%s\",\"authorization_servers\":[\"%s\"],"
            "\"scopes_supported\":[],\"bearer_methods_supported\":[\"header\"]}", origin, origin);
    } else if (starts(head, "GET /.well-known/oauth-authorization-server ")) {
        count.discoveries++;
        metadata(c, origin);
    } else if (starts(head, "GET /xrpc/com.atproto.identity.resolveHandle?handle=u")) {
        char did[64];
        did_of(strtoul(strstr(head, "handle=u") + 8, 0, 10), did);
        count.documents++;
        answer(c, "200 OK", "", false, "{\"did\":\"%s\"}", did);
    } else if (starts(head, "GET /xrpc/") || starts(head, "POST /xrpc/")) {
        count.calls++;
        call(c, head);
    } else {
        count.bad++;
        answer(c, "404 Not Found", "", false, "{}");
    }
}

/* Connections -------------------------------------------------------------------------------- */

static void close_connection(struct connection *c) {
    if (c->ssl) SSL_free(c->ssl);
    close(c->fd);
    free(c->in), free(c->out), free(c);
}

static void wait_for(struct connection *c, uint32_t what) {
    struct epoll_event event = {.events = what, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
}

enum result { DONE, LATER, BROKEN };

static enum result of_tls(struct connection *c, int result) {
    int error = SSL_get_error(c->ssl, result);
    if (error == SSL_ERROR_WANT_WRITE) wait_for(c, EPOLLOUT);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? LATER : BROKEN;
}

static enum result send_answer(struct connection *c) {
    while (c->sent < c->to_send) {
        int left = c->to_send - c->sent;
        int n = c->ssl ? SSL_write(c->ssl, c->out + c->sent, left) : (int)write(c->fd, c->out + c->sent, (size_t)left);
        if (n <= 0 && c->ssl) return of_tls(c, n);
        if (n <= 0) {
            if (errno == EAGAIN) wait_for(c, EPOLLOUT);
            return errno == EAGAIN ? LATER : BROKEN;
        }
        c->sent += n;
    }
    c->sent = c->to_send = 0;
    return DONE;
}

static enum result receive(struct connection *c) {
    int room = LARGEST_REQUEST - c->received - 1;
    if (room <= 0) return BROKEN;
    int n = c->ssl ? SSL_read(c->ssl, c->in + c->received, room) : (int)read(c->fd, c->in + c->received, (size_t)room);
    if (n <= 0 && c->ssl) return of_tls(c, n);
    if (n <= 0) return n < 0 && errno == EAGAIN ? LATER : BROKEN;
    c->received += n;
    c->in[c->received] = 0;
    return DONE;
}

/* Answers the request at the head of the buffer. False: it has not arrived as a whole. */
static bool answer_next(struct connection *c) {
    char *end = strstr(c->in, "\r\n\r\n");
    if (!end) return false;
    int digits, total = (int)(end + 4 - c->in);
    const char *length = field(c->in, "Content-Length", &digits);
    if (length) total += atoi(length);
    if (c->received < total) return false;
    char kept = c->in[total];
    c->in[total] = 0;
    handle(c, c->in, end + 4);
    c->in[total] = kept;
    c->received -= total;
    memmove(c->in, c->in + total, (size_t)c->received + 1);
    return true;
}

static enum result serve(struct connection *c) {
    enum result result;
    ERR_clear_error();
    if (c->ssl && !c->is_secured) {
        int n = SSL_accept(c->ssl);
        if (n != 1) return of_tls(c, n);
        c->is_secured = true;
    }
    if (c->to_send) {
        if ((result = send_answer(c)) != DONE) return result;
        wait_for(c, EPOLLIN);
    }
    while ((result = receive(c)) == DONE)
        while (answer_next(c))
            if ((result = send_answer(c)) != DONE) return result;
    return result;
}

static void watch(struct connection *c) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event)) die("epoll_ctl");
}

static void accept_all(struct connection *listener) {
    int fd, yes = 1;
    while ((fd = accept4(listener->fd, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *c = calloc(1, sizeof *c);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        c->fd = fd, c->port = listener->port;
        c->in = malloc(LARGEST_REQUEST), c->out = malloc(LARGEST_ANSWER);
        *c->in = 0;
        if (tls && c->port != admin_port) {
            c->ssl = SSL_new(tls);
            SSL_set_fd(c->ssl, fd);
            SSL_set_accept_state(c->ssl);
        }
        count.connections++;
        watch(c);
    }
}

/* Listens on a port that the kernel chooses, and returns it. */
static int listen_somewhere(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    struct connection *c = calloc(1, sizeof *c);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (bind(c->fd, (struct sockaddr *)&address, size) || listen(c->fd, 1024)) die("listen");
    getsockname(c->fd, (struct sockaddr *)&address, &size);
    c->is_listener = true;
    watch(c);
    return c->port = ntohs(address.sin_port);
}

static void read_arguments(char **argument) {
    for (char **a = argument + 1; *a; a++) {
        if (!strcmp(*a, "-issuers")) issuers = atoi(*++a);
        else if (!strcmp(*a, "-lifetime")) lifetime = atoi(*++a);
        else if (!strcmp(*a, "-sessions")) sessions = strtoul(*++a, 0, 10);
        else if (!strcmp(*a, "-host")) host = *++a;
        else if (!strcmp(*a, "-tls")) {
            tls = SSL_CTX_new(TLS_server_method());
            SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
            if (SSL_CTX_use_certificate_chain_file(tls, a[1]) != 1 || SSL_CTX_use_PrivateKey_file(tls, a[2], SSL_FILETYPE_PEM) != 1) {
                ERR_print_errors_fp(stderr);
                exit(2);
            }
            a += 2;
        } else {
            fprintf(stderr, "endpoint: what is %s?\n", *a);
            exit(2);
        }
    }
}

/* Each connection is a file; the usual limit is for select(2). */
static void raise_limit_of_files(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void tick(void) {
    time_t before = now;
    struct tm utc;
    if ((now = time(0)) != before) strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &utc));
}

int main(int argc, char **argv) {
    (void)argc;
    signal(SIGPIPE, SIG_IGN);
    read_arguments(argv);
    raise_limit_of_files();
    memset(value_of, -1, sizeof value_of);
    for (int i = 0; i < 64; i++) value_of[(unsigned char)alphabet[i]] = (signed char)i;
    newest = calloc(sessions, sizeof *newest);
    issuer_ports = calloc((size_t)issuers, sizeof *issuer_ports);
    poller = epoll_create1(EPOLL_CLOEXEC);
    printf("{\"admin\": %d, \"issuers\": [", admin_port = listen_somewhere());
    for (int i = 0; i < issuers; i++) printf("%s%d", i ? ", " : "", issuer_ports[i] = listen_somewhere());
    printf("]}\n");
    fflush(stdout);
    struct connection input = {.fd = STDIN_FILENO}; /* its end is the end of whoever started this */
    watch(&input);
    for (;;) {
        struct epoll_event events[256];
        int n = epoll_wait(poller, events, 256, 1000);
        tick();
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (c == &input) return 0;
            if (c->is_listener) accept_all(c);
            else if (serve(c) == BROKEN) close_connection(c);
        }
    }
}
