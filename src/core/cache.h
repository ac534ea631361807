/* cache.h: a content-addressed cache of small files that outlives the process, shared by all processes of a user. */
#ifndef STEER_CORE_CACHE_H
#define STEER_CORE_CACHE_H

#include "core/hash.h"

/* The folder is $XDG_CACHE_HOME/steer, else ~/.cache/steer; STEER_CACHE_BYTES bounds it (default 256 MiB, 0: no cache),
 * the entries that were not used for longest going first. Both variables are read at each call. */

/* INVALID_ARGUMENT if STEER_CACHE_BYTES is not a number of bytes. */
int steer_cache_check(void);

/* The data stored under a key, for the caller to free. NOT_FOUND if there is none: an entry that is cut short, changed
 * or of another key is none, and is removed. */
int steer_cache_get(void **data, size_t *size, steer_hash key);

/* Stores data under a key, whole or not at all, then makes room. IO, NOT_FOUND or INTERRUPTED if it could not be
 * stored: the folder cannot be made or written, the disk is full, the entry is above the bound. */
int steer_cache_put(steer_hash key, const void *data, size_t size);

#endif
