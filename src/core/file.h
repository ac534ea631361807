/* file.h: files mapped for reading, and files written so that they appear whole or not at all. */
#ifndef STEER_CORE_FILE_H
#define STEER_CORE_FILE_H

#include "core/refs.h"
#include "core/status.h"

#include <stddef.h>

struct steer_map {
    steer_refs refs;
    uint8_t *data; /* NULL if the file is empty */
    int64_t size;
    char path[]; /* as the caller wrote it, for messages */
};

/* Maps a regular file, private and writable: changes stay in memory. Nobody may shorten the file while it is mapped:
 * an access past its new end raises SIGBUS, as with any mapped file, and ends the process with a message (shortened.h). */
int steer_map_file(steer_map **out, const char *path);
/* A map in memory of what bytes of a map become when inflated (inflate.c); the range was checked. FORMAT. */
int steer_map_inflated(steer_map **out, const steer_map *map, int64_t offset, int64_t size, int64_t raw_size,
                       uint32_t crc);
void steer_map_drop(steer_map *map);

/* Makes a temporary file in the folder of `path`; a link is followed, so that its target is what gets replaced. */
int steer_file_begin(steer_file **out, const char *path);
/* After a failure the temporary file is gone and later calls fail too. */
int steer_file_append(steer_file *file, const void *data, size_t size);
int steer_file_publish(steer_file *file);
/* Removes what was not published, keeping the recorded failure; the handle stays and refuses further calls. */
void steer_file_discard(steer_file *file);
void steer_file_free(steer_file *file);

#endif
