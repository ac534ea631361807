/* interrupt.h: the flag that Ctrl-C sets and every public call polls. */
#ifndef STEER_CORE_INTERRUPT_H
#define STEER_CORE_INTERRUPT_H

#include <signal.h>

extern volatile sig_atomic_t steer_interrupt_flag;

/* 1 if the flag was set; clears it. */
static inline int steer_interrupt_take(void) {
    if (__builtin_expect(!steer_interrupt_flag, 1)) return 0;
    steer_interrupt_flag = 0;
    return 1;
}

#endif
