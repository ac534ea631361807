/* steps.h: the numbers of rows for which work is prepared, such as graphs and algorithms of products, so that little of it serves
 * all. */
#ifndef STEER_BACKEND_STEPS_H
#define STEER_BACKEND_STEPS_H

#include <stdint.h>

/* The least step that has room for `rows`, at least 1: powers of two and, from 16 on, the numbers half way between. */
static inline int64_t steer_step_of(int64_t rows) {
    int64_t step = 1;
    while (step < rows) {
        if (step >= 16 && step + step / 2 >= rows) return step + step / 2;
        step *= 2;
    }
    return step;
}

#endif
