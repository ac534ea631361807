/* shortened.h: a mapped file that somebody shortens is named before SIGBUS ends the process. */
#ifndef STEER_CORE_SHORTENED_H
#define STEER_CORE_SHORTENED_H

#include "core/file.h"

/* Watches over a map until it is forgotten. A program that handles SIGBUS itself keeps its handler, and gets no message. */
void steer_shortened_watch(steer_map *map);
void steer_shortened_forget(const steer_map *map);

#endif
