/* files.h: temporary files of C tests that read files: a folder that goes away, and bytes put into it. */
#ifndef STEER_TEST_FILES_H
#define STEER_TEST_FILES_H

#include "check.h"

#include <dirent.h>
#include <unistd.h>

static char files_folder[64];

static inline void files_begin(void) {
    strcpy(files_folder, "/tmp/steer-test-XXXXXX");
    CHECK(mkdtemp(files_folder) != NULL);
}

/* A path in the folder; valid until the fourth call after. */
static inline const char *files_path(const char *name) {
    static char paths[4][400];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", files_folder, name);
    return path;
}

/* Writes a file; the path. What an older file of the name is mapped by keeps it. */
static inline const char *files_put(const char *name, const void *data, size_t size) {
    const char *path = files_path(name);
    unlink(path);
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(data, 1, size, file) == size && fclose(file) == 0);
    return path;
}

static inline void files_empty(void) {
    DIR *dir = opendir(files_folder);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        if (entry->d_name[0] != '.') unlink(files_path(entry->d_name));
    if (dir) closedir(dir);
}

static inline void files_end(void) {
    files_empty();
    rmdir(files_folder);
}

#endif
