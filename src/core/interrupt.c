/* interrupt.c: SIGINT sets a flag; a timer ends a process whose script never looks at it, a second SIGINT one that
 * goes on. */
#include "core/interrupt.h"
#include "core/status.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

volatile sig_atomic_t steer_interrupt_flag;
static volatile sig_atomic_t deadline_ms; /* 0: never end the process */
static timer_t deadline_timer;
static int have_timer;

/* Whoever sends two signals means it: a terminal and a parent that passes Ctrl-C on are not as far apart. */
#define TWICE_FROM 0.1
#define TWICE_TO   5.0
static double last_interrupt = -TWICE_TO; /* seconds */

static void end_process(const char *text) {
    ssize_t ignored = write(STDERR_FILENO, text, strlen(text));
    (void)ignored;
    _exit(130);
}

static void on_deadline(int sig) {
    (void)sig;
    if (!steer_interrupt_flag) return; /* somebody noticed in time */
    end_process("steer: interrupted; the script made no library call, so the process was ended\n");
}

static void on_interrupt(int sig) {
    (void)sig;
    int saved = errno;
    steer_interrupt_flag = 1;
    if (deadline_ms > 0) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        double seconds = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec, since = seconds - last_interrupt;
        if (since > TWICE_FROM && since < TWICE_TO)
            end_process("steer: interrupted twice, so the process was ended\n");
        last_interrupt = seconds;
        struct itimerspec when = {
            .it_value = {.tv_sec = deadline_ms / 1000, .tv_nsec = (long)(deadline_ms % 1000) * 1000000L}};
        timer_settime(deadline_timer, 0, &when, NULL);
    }
    errno = saved;
}

int steer_interrupt_install(uint32_t exit_after_ms) {
    STEER_ENTER("interrupt_install");
    if (exit_after_ms > 60000)
        return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "exit_after_ms: %u, expected at most 60000",
                          exit_after_ms);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART;
    if (exit_after_ms > 0 && !have_timer) {
        struct sigevent event;
        memset(&event, 0, sizeof event);
        event.sigev_notify = SIGEV_SIGNAL;
        event.sigev_signo = SIGALRM;
        action.sa_handler = on_deadline;
        if (sigaction(SIGALRM, &action, NULL) != 0 ||
            timer_create(CLOCK_MONOTONIC, &event, &deadline_timer) != 0)
            return STEER_FAIL(STEER_E_IO, "cannot set up the interrupt timer: %s", strerror(errno));
        have_timer = 1;
    }
    deadline_ms = (sig_atomic_t)exit_after_ms;
    action.sa_handler = on_interrupt;
    if (sigaction(SIGINT, &action, NULL) != 0)
        return STEER_FAIL(STEER_E_IO, "cannot handle SIGINT: %s", strerror(errno));
    return STEER_OK;
}

void steer_interrupt_raise(void) { steer_interrupt_flag = 1; }
int steer_interrupt_pending(void) { return steer_interrupt_flag != 0; }
void steer_interrupt_clear(void) { steer_interrupt_flag = 0; }
