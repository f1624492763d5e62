/* A vendor's program that fails in the way that it is told to: for real, so that the words are those of the kernel and the C library. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <netdb.h>
#include <pthread.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static int complain(const char *what) {
    fprintf(stderr, "acme: %s: %s\n", what, strerror(errno));
    return 2;
}

static struct sockaddr_in at(const char *address, const char *port) {
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((unsigned short) atoi(port)) };
    inet_pton(AF_INET, address, &at.sin_addr);
    return at;
}

static int network(const char *verb, char **words) {
    char what[200];
    struct sockaddr_in place = at(words[0], words[1]);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    snprintf(what, sizeof what, "%s %s:%s", verb, words[0], words[1]);
    if (!strcmp(verb, "bind"))
        return bind(fd, (struct sockaddr *) &place, sizeof place) || listen(fd, 5) ? complain(what) : 0;
    return connect(fd, (struct sockaddr *) &place, sizeof place) ? complain(what) : 0;
}

static int resolve(const char *name) {
    struct addrinfo *found;
    int code = getaddrinfo(name, "80", NULL, &found);
    if (!code) return 0;
    fprintf(stderr, "acme: cannot reach %s: %s\n", name, gai_strerror(code));
    return 3;
}

static void *idle(void *nothing) { pause(); return nothing; }

static int threads(void) {
    for (int i = 0; i < 100000; i++) {
        pthread_t thread;
        int code = pthread_create(&thread, NULL, idle, NULL);
        if (code) { fprintf(stderr, "acme: pthread_create failed: %s\n", strerror(code)); return 4; }
    }
    return 0;
}

static int deep(int n) { volatile char room[4096]; room[0] = (char) n; return deep(n + 1) + room[0]; }

static int memory(void) {
    for (;;) {
        char *more = malloc(8 << 20);
        if (!more) return complain("reserve volume buffer");
        memset(more, 1, 8 << 20);
    }
}

static int crash(const char *verb) {
    if (!strcmp(verb, "segv")) { volatile int *nowhere = (int *) 16; *nowhere = 1; }
    if (!strcmp(verb, "ill")) __builtin_trap();
    if (!strcmp(verb, "abort")) abort();
    if (!strcmp(verb, "assert")) { int channels = 0; assert(channels > 0 && "no channels"); }
    if (!strcmp(verb, "fpe")) { volatile int zero = 0, one = 1000; return one / zero; }
    if (!strcmp(verb, "stack")) return deep(0);
    if (!strcmp(verb, "free")) { void *volatile one = malloc(40); free(one); free(one); }
    if (!strcmp(verb, "bus")) {
        int fd = open("/tmp/ring", O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (ftruncate(fd, 8192)) return 1;
        char *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (ftruncate(fd, 0)) return 1;
        map[5000] = 1;
    }
    return 64;
}

static int file(const char *verb, const char *path) {
    char what[300];
    int flags = !strcmp(verb, "read") ? O_RDONLY : O_WRONLY | O_CREAT;
    snprintf(what, sizeof what, "cannot %s %s", verb, path);
    int fd = open(path, flags, 0600);
    if (fd < 0) return complain(what);
    static char block[1 << 16];
    for (int i = 0; !strcmp(verb, "fill") && i < 100000; i++)
        if (write(fd, block, sizeof block) < 0) return complain(what);
    return 0;
}

static int many_files(void) {
    struct rlimit few = { 64, 64 };
    setrlimit(RLIMIT_NOFILE, &few);
    for (;;) if (open("/dev/null", O_RDONLY) < 0) return complain("open channel /tmp/ch65");
}

static int special(const char *verb, char **words) {
    if (!strcmp(verb, "mlock")) {
        static char buffer[1 << 20];
        struct rlimit none = { 0, 0 };
        setrlimit(RLIMIT_MEMLOCK, &none);
        return mlock(buffer, sizeof buffer) ? complain("mlock(ring)") : 0;
    }
    if (!strcmp(verb, "fifo")) {
        struct sched_param high = { .sched_priority = 80 };
        return sched_setscheduler(0, SCHED_FIFO, &high) ? complain("sched_setscheduler(SCHED_FIFO, 80)") : 0;
    }
    if (!strcmp(verb, "load")) {
        if (dlopen(words[0], RTLD_NOW)) return 0;
        fprintf(stderr, "acme: driver: %s\n", dlerror());
        return 5;
    }
    if (!strcmp(verb, "locale")) {
        if (setlocale(LC_ALL, words[0])) return 0;
        fprintf(stderr, "acme: setlocale failed: the locale %s is not available\n", words[0]);
        return 6;
    }
    if (!strcmp(verb, "terminal")) {
        struct termios now;
        return tcgetattr(0, &now) ? complain("tcgetattr") : 0;
    }
    if (!strcmp(verb, "user")) {
        if (getpwnam(words[0])) return 0;
        fprintf(stderr, "acme: getpwnam(%s): no such user\n", words[0]);
        return 7;
    }
    if (!strcmp(verb, "exec")) { execl(words[0], words[0], (char *) NULL); return complain(words[0]); }
    return 64;
}

int main(int count, char **words) {
    const char *verb = count > 1 ? words[1] : "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("acme 4.2.1 starting (pid %d)\n", (int) getpid());
    fprintf(stderr, "acme: warning: cannot open /etc/acme/site.conf: No such file or directory, using defaults\n");
    if (!strcmp(verb, "bind") || !strcmp(verb, "connect")) return network(verb, words + 2);
    if (!strcmp(verb, "resolve")) return resolve(words[2]);
    if (!strcmp(verb, "threads")) return threads();
    if (!strcmp(verb, "memory")) return memory();
    if (!strcmp(verb, "files")) return many_files();
    if (!strcmp(verb, "read") || !strcmp(verb, "write") || !strcmp(verb, "fill")) return file(verb, words[2]);
    int code = crash(verb);
    return code != 64 ? code : special(verb, words + 2);
}
