// Runs commands and prints what each run cost as a process.
//
//     measure COPIES ROUNDS -- PROGRAM ARGUMENT... [-- PROGRAM ARGUMENT...]...
//
// In each round the commands take turns (A B A B ...), so that what else the machine does hits all of them alike. A turn
// starts COPIES of the command, all at once, and waits for them. There is no shell, and the commands see /dev/null only.
//
// Each run is a line of numbers: which command (from 0), wall time and CPU time (user and system) in microseconds,
// minor page faults, peak RSS in KiB, exit code (128 and the signal's number, if it was a signal). The first rounds,
// which warm the caches, are not told.
//
// This is C, and small, for what a process is charged begins before its program does: until exec, it runs on its
// parent's memory, and Linux counts that in its peak RSS. So no command is seen to use less than this program does.

#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WARM_UP_ROUNDS = 5, MOST_COPIES = 1000, MOST_COMMANDS = 100 };

struct run {
    pid_t process;
    long started;
};

static long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

static long microseconds(struct timeval time) {
    return time.tv_sec * 1000000 + time.tv_usec;
}

static void fail(const char *what) {
    fprintf(stderr, "measure: %s\n", what);
    exit(1);
}

// Not fork: to copy this program's memory, and to throw the copy away, would be charged to the command.
static struct run start(char **command, posix_spawn_file_actions_t *files) {
    struct run run = {.started = now()};
    if (posix_spawn(&run.process, command[0], files, NULL, command, environ)) fail(command[0]);
    return run;
}

static void take_turn(int index, char **command, posix_spawn_file_actions_t *files, int copies, int is_told) {
    static struct run runs[MOST_COPIES];
    for (int i = 0; i < copies; i++) runs[i] = start(command, files);

    for (int left = copies; left > 0; left--) {
        int status;
        struct rusage used;
        pid_t process = wait4(-1, &status, 0, &used);
        long ended = now();
        if (process < 0) fail("a process is lost");
        struct run *run = runs;
        while (run->process != process) run++;
        // Its number may be given to another.
        run->process = 0;

        int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        long cpu = microseconds(used.ru_utime) + microseconds(used.ru_stime);
        if (is_told)
            printf("%d %ld %ld %ld %ld %d\n", index, ended - run->started, cpu, used.ru_minflt, used.ru_maxrss, code);
    }
}

int main(int count, char **arguments) {
    static char **commands[MOST_COMMANDS];
    if (count < 5 || strcmp(arguments[3], "--")) fail("usage: measure COPIES ROUNDS -- PROGRAM ARGUMENT...");
    int copies = atoi(arguments[1]), rounds = atoi(arguments[2]), length = 0;
    if (copies < 1 || copies > MOST_COPIES) fail("not a number of copies");

    // Each separator ends the command before it.
    for (int i = 3; i < count; i++) {
        if (strcmp(arguments[i], "--")) continue;
        arguments[i] = NULL;
        if (length == MOST_COMMANDS || i + 1 == count) fail("too many commands, or an empty one");
        commands[length++] = &arguments[i + 1];
    }

    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) posix_spawn_file_actions_adddup2(&files, null, fd);

    for (int round = -WARM_UP_ROUNDS; round < rounds; round++)
        for (int i = 0; i < length; i++) take_turn(i, commands[i], &files, copies, round >= 0);
}
