/* file.c: files mapped for reading, and files written beside their name, synced and renamed over it. */
#include "core/file.h"
#include "core/interrupt.h"
#include "core/shortened.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { WRITE_BYTES = 16 << 20 }; /* written between two looks at the interrupt flag */

/* Long paths are cut so that the reason after them fits the message. */
static int fail_errno(const char *path, const char *what) {
    int code = errno == ENOENT || errno == ENOTDIR ? STEER_E_NOT_FOUND
               : errno == ENOMEM                   ? STEER_E_OUT_OF_MEMORY
                                                   : STEER_E_IO;
    return STEER_FAIL(code, "%.700s: cannot %s: %s", path, what, strerror(errno));
}

static int check_path(const char *path) {
    STEER_REQUIRE(path);
    if (!*path) return STEER_FAIL(STEER_E_INVALID_ARGUMENT, "path: is empty, expected the name of a file");
    return STEER_OK;
}

static int check_regular(const char *path, mode_t mode) {
    if (S_ISDIR(mode)) return STEER_FAIL(STEER_E_IO, "%.700s: is a folder, expected a file", path);
    if (!S_ISREG(mode))
        return STEER_FAIL(STEER_E_IO, "%.700s: is a pipe, socket or device, expected a file", path);
    return STEER_OK;
}

/* ---- Mapping -------------------------------------------------------------------------------------------------- */

static int map_descriptor(steer_map **out, int fd, const char *path) {
    struct stat st;
    if (fstat(fd, &st) != 0) return fail_errno(path, "look at it");
    STEER_TRY(check_regular(path, st.st_mode));
    steer_map *map = malloc(sizeof *map + strlen(path) + 1);
    if (!map) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "%.700s: no memory to open it", path);
    steer_refs_init(&map->refs);
    strcpy(map->path, path);
    map->size = st.st_size;
    map->data = NULL;
    if (map->size > 0) {
        /* Without NORESERVE a writable mapping of a file larger than memory is refused. */
        void *data =
            mmap(NULL, (size_t)map->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
        if (data == MAP_FAILED) {
            free(map);
            return fail_errno(path, "map it");
        }
        map->data = data;
        steer_shortened_watch(map);
    }
    *out = map;
    return STEER_OK;
}

int steer_map_file(steer_map **out, const char *path) {
    STEER_TRY(check_path(path));
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); /* opening a pipe must not wait */
    if (fd < 0) return fail_errno(path, "open");
    int status = map_descriptor(out, fd, path);
    close(fd);
    return status;
}

void steer_map_drop(steer_map *map) {
    if (!map || !steer_refs_drop(&map->refs)) return;
    steer_shortened_forget(map);
    if (map->data) munmap(map->data, (size_t)map->size);
    free(map);
}

/* ---- Writing -------------------------------------------------------------------------------------------------- */

struct steer_file {
    int fd;     /* the temporary file; -1 once published or discarded */
    int folder; /* where both names are */
    int published;
    char temporary[64]; /* its name while it exists, else empty */
    char name[NAME_MAX + 1];
    char path[]; /* as the caller wrote it, for messages */
};

/* The name that `path` stands for once links are followed; it need not exist. 0, or -1 with errno. */
static int follow_links(char target[PATH_MAX], const char *path) {
    size_t size = strlen(path) + 1;
    if (size > PATH_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(target, path, size);
    for (int hops = 0; hops < 40; hops++) {
        char link[PATH_MAX];
        ssize_t length = readlink(target, link, sizeof link - 1);
        if (length < 0) return errno == EINVAL || errno == ENOENT ? 0 : -1; /* not a link, or absent */
        link[length] = '\0';
        char *slash = link[0] == '/' ? NULL : strrchr(target, '/');
        size_t kept = slash ? (size_t)(slash - target) + 1 : 0;
        if (kept + (size_t)length >= PATH_MAX) {
            errno = ENAMETOOLONG;
            return -1;
        }
        memcpy(target + kept, link, (size_t)length + 1);
    }
    errno = ELOOP;
    return -1;
}

/* Opens the folder of the target and keeps the target's name in it. */
static int open_folder(steer_file *file) {
    char target[PATH_MAX];
    if (follow_links(target, file->path) != 0) return fail_errno(file->path, "follow it");
    char *slash = strrchr(target, '/');
    const char *name = slash ? slash + 1 : target;
    if (!*name || !strcmp(name, ".") || !strcmp(name, ".."))
        return STEER_FAIL(STEER_E_IO, "%.700s: is a folder, expected a file", file->path);
    if (strlen(name) > NAME_MAX) {
        errno = ENAMETOOLONG;
        return fail_errno(file->path, "write");
    }
    strcpy(file->name, name);
    if (slash) slash[slash == target] = '\0'; /* "/name" is in "/" */
    file->folder = open(slash ? target : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return file->folder < 0 ? fail_errno(file->path, "open its folder") : STEER_OK;
}

/* The permission bits that the new file takes over, or -1 if there is no old file. */
static int old_mode(int *mode, const steer_file *file) {
    struct stat st;
    *mode = -1;
    if (fstatat(file->folder, file->name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? STEER_OK : fail_errno(file->path, "look at it");
    STEER_TRY(check_regular(file->path, st.st_mode));
    /* A rename would replace a write-protected file without asking. */
    if (faccessat(file->folder, file->name, W_OK, AT_EACCESS) != 0) {
        if (errno == ENOENT) return STEER_OK; /* another process just removed it */
        return fail_errno(file->path, "write");
    }
    *mode = (int)(st.st_mode & 0777);
    return STEER_OK;
}

static int create_temporary(steer_file *file) {
    static atomic_uint counter;
    int mode;
    STEER_TRY(old_mode(&mode, file));
    for (int attempt = 0; attempt < 100; attempt++) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        snprintf(file->temporary, sizeof file->temporary, ".steer-%ld-%lx-%x.tmp", (long)getpid(),
                 (unsigned long)now.tv_nsec, atomic_fetch_add(&counter, 1u));
        file->fd = openat(file->folder, file->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (file->fd >= 0 || errno != EEXIST) break;
    }
    if (file->fd < 0) {
        file->temporary[0] = '\0';
        return fail_errno(file->path, "create a file in its folder");
    }
    if (mode >= 0 && fchmod(file->fd, (mode_t)mode) != 0)
        return fail_errno(file->path, "keep its permissions");
    return STEER_OK;
}

int steer_file_begin(steer_file **out, const char *path) {
    STEER_TRY(check_path(path));
    steer_file *file = malloc(sizeof *file + strlen(path) + 1);
    if (!file) return STEER_FAIL(STEER_E_OUT_OF_MEMORY, "%.700s: no memory to write it", path);
    strcpy(file->path, path);
    file->fd = file->folder = -1;
    file->published = 0;
    file->temporary[0] = '\0';
    int status = open_folder(file);
    if (status == STEER_OK) status = create_temporary(file);
    if (status != STEER_OK) {
        steer_file_free(file);
        return status;
    }
    *out = file;
    return STEER_OK;
}

void steer_file_discard(steer_file *file) {
    if (file->fd >= 0) close(file->fd);
    if (file->temporary[0]) unlinkat(file->folder, file->temporary, 0);
    if (file->folder >= 0) close(file->folder);
    file->fd = file->folder = -1;
    file->temporary[0] = '\0';
}

/* Reports errno and drops the file. */
static int drop(steer_file *file, const char *what) {
    int status = fail_errno(file->path, what);
    steer_file_discard(file);
    return status;
}

static int check_open(const steer_file *file) {
    if (file->fd >= 0) return STEER_OK;
    if (file->published)
        return STEER_FAIL(STEER_E_CLOSED, "%.700s: is committed, nothing can be written to it", file->path);
    return STEER_FAIL(STEER_E_CLOSED, "%.700s: an earlier write failed and the file was dropped", file->path);
}

int steer_file_append(steer_file *file, const void *data, size_t size) {
    STEER_TRY(check_open(file));
    const char *bytes = data;
    while (size > 0) {
        if (steer_interrupt_take()) {
            steer_file_discard(file);
            return STEER_FAIL(STEER_E_INTERRUPTED, "interrupted");
        }
        ssize_t written = write(file->fd, bytes, size < WRITE_BYTES ? size : WRITE_BYTES);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return drop(file, "write");
        bytes += written;
        size -= (size_t)written;
    }
    return STEER_OK;
}

static int sync_descriptor(int fd) {
    int result;
    do result = fsync(fd);
    while (result != 0 && errno == EINTR);
    return result;
}

int steer_file_publish(steer_file *file) {
    STEER_TRY(check_open(file));
    if (sync_descriptor(file->fd) != 0) return drop(file, "sync");
    int fd = file->fd;
    file->fd = -1; /* gone even when close fails; some file systems report a full disk only here */
    if (close(fd) != 0) return drop(file, "close");
    if (renameat(file->folder, file->temporary, file->folder, file->name) != 0) return drop(file, "replace");
    file->temporary[0] = '\0';
    file->published = 1;
    int status = STEER_OK;
    /* EINVAL: this file system has nothing to sync for a folder. */
    if (sync_descriptor(file->folder) != 0 && errno != EINVAL)
        status = fail_errno(file->path, "sync its folder (the new file is in place)");
    steer_file_discard(file);
    return status;
}

void steer_file_free(steer_file *file) {
    if (!file) return;
    steer_file_discard(file);
    free(file);
}
