/* check.h: checks for C tests. A failed one prints where and what; main returns check_result(). */
#ifndef STEER_TEST_CHECK_H
#define STEER_TEST_CHECK_H

#include "steer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Atomic int check_count, check_failures; /* threads check too */

static inline void check_report(int passed, const char *file, int line, const char *text, const char *more) {
    check_count++;
    if (passed) return;
    check_failures++;
    if (check_failures <= 50) fprintf(stderr, "%s:%d: %s%s%s\n", file, line, text, *more ? ": " : "", more);
}

static inline int check_result(void) {
    fprintf(stderr, "%d checks, %d failed\n", check_count, check_failures);
    return check_failures != 0 || check_count == 0;
}

/* A call that is to fail with a code and a message that holds `text`. */
static inline void check_fails(int status, int code, const char *text, const char *file, int line,
                               const char *call) {
    char more[1200];
    snprintf(more, sizeof more, "gave %s \"%s\", expected %s with \"%s\"", steer_status_name(status),
             status ? steer_error_message() : "", steer_status_name(code), text);
    int passed = status == code && steer_error_code() == code && strstr(steer_error_message(), text) &&
                 *steer_error_op() && strchr(steer_error_where(), ':');
    check_report(passed, file, line, call, more);
}

static inline void check_near(double value, double expected, double bound, const char *file, int line,
                              const char *text) {
    char more[160];
    int equal = value == expected || (isnan(value) && isnan(expected)) || fabs(value - expected) <= bound;
    snprintf(more, sizeof more, "is %.17g, expected %.17g within %.3g", value, expected, bound);
    check_report(equal, file, line, text, more);
}

/* Rounds of a test that repeats itself: STEER_TEST_ROUNDS multiplies them; without it STEER_TEST_THIN does, which the suite
 * sets where it is slow. At least 1. */
static inline int check_rounds(int n) {
    const char *share = getenv("STEER_TEST_ROUNDS");
    if (!share) share = getenv("STEER_TEST_THIN");
    const int rounds = share ? (int)(n * atof(share)) : n;
    return rounds > 1 ? rounds : 1;
}

#define CHECK(condition) check_report(!!(condition), __FILE__, __LINE__, #condition, "")
#define CHECK_OK(call)                                                                                       \
    do {                                                                                                     \
        int check_status = (call);                                                                           \
        check_report(check_status == STEER_OK, __FILE__, __LINE__, #call,                                    \
                     check_status ? steer_error_message() : "");                                             \
    } while (0)
#define CHECK_FAILS(call, code, text) check_fails((call), (code), (text), __FILE__, __LINE__, #call)
#define CHECK_NEAR(value, expected, bound)                                                                   \
    check_near((value), (expected), (bound), __FILE__, __LINE__, #value)

#endif
