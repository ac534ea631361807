/* test_cache.c: the disk cache: what is stored comes back, what is damaged does not, faults are errors and nothing more.
 * Built with the library's core, whose functions are not exported. */
#include "check.h"
#include "core/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char home[] = "/tmp/steer-test-cache-XXXXXX";

static steer_hash key_of(int i) { return steer_hash_bytes((steer_hash){0, 0}, &i, sizeof i); }

static void entry_path(char path[PATH_MAX], int i) {
    steer_hash key = key_of(i);
    snprintf(path, PATH_MAX, "%s/steer/%016llx%016llx.entry", home, (unsigned long long)key.hi,
             (unsigned long long)key.lo);
}

static void *bytes_of(int i, size_t size) {
    unsigned char *bytes = malloc(size + 1);
    for (size_t at = 0; at < size; at++) bytes[at] = (unsigned char)((size_t)i * 31 + at * 7 + (at >> 8));
    return bytes;
}

static int put(int i, size_t size) {
    void *bytes = bytes_of(i, size);
    int status = steer_cache_put(key_of(i), bytes, size);
    free(bytes);
    return status;
}

/* 1 if the entry is there with the right bytes, 0 if there is none; anything else fails the test. */
static int has(int i, size_t size) {
    void *data = NULL, *expected = bytes_of(i, size);
    size_t found = 0;
    int status = steer_cache_get(&data, &found, key_of(i));
    CHECK(status == STEER_OK || status == STEER_E_NOT_FOUND);
    CHECK(status != STEER_OK || (found == size && memcmp(data, expected, size) == 0));
    if (status == STEER_OK) free(data);
    free(expected);
    return status == STEER_OK;
}

static int64_t folder_bytes(int *files) {
    char path[PATH_MAX];
    int64_t total = 0;
    snprintf(path, sizeof path, "%s/steer", home);
    DIR *folder = opendir(path);
    *files = 0;
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        struct stat st;
        if (fstatat(dirfd(folder), entry->d_name, &st, 0) != 0 || !S_ISREG(st.st_mode)) continue;
        total += st.st_size;
        ++*files;
    }
    if (folder) closedir(folder);
    return total;
}

static void test_round_trip(void) {
    static const size_t sizes[] = {0, 1, 7, 8, 4096, 1000003};
    for (int i = 0; i < 6; i++) {
        CHECK(!has(i, sizes[i]));
        CHECK_OK(put(i, sizes[i]));
        CHECK(has(i, sizes[i]));
    }
    CHECK_OK(put(3, 100)); /* another content takes the old one's place */
    CHECK(has(3, 100));
    struct stat st;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/steer", home);
    CHECK(stat(path, &st) == 0 && (st.st_mode & 077) == 0); /* nobody else may put code there */
}

/* Changes a stored entry: cuts it to `size` (-1: as it is) and flips a bit of byte `at` (-1: none). */
static void damage(int i, off_t size, off_t at) {
    char path[PATH_MAX];
    unsigned char byte = 0;
    entry_path(path, i);
    int fd = open(path, O_RDWR);
    CHECK(fd >= 0);
    if (size >= 0) CHECK(ftruncate(fd, size) == 0);
    if (at >= 0) {
        CHECK(pread(fd, &byte, 1, at) == 1);
        byte ^= 1;
        CHECK(pwrite(fd, &byte, 1, at) == 1);
    }
    close(fd);
}

static void test_damage(void) {
    static const off_t sizes[] = {0, 1, 47, 48, 300, -1};
    char path[PATH_MAX], other[PATH_MAX];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        CHECK_OK(put(10, 1000));
        damage(10, sizes[i], -1);
        CHECK(has(10, 1000) == (sizes[i] < 0));
    }
    for (off_t at = 0; at < 1048; at += 13) { /* every part of the head, and the data */
        CHECK_OK(put(10, 1000));
        damage(10, -1, at);
        CHECK(!has(10, 1000));
        entry_path(path, 10);
        CHECK(access(path, F_OK) != 0); /* gone, to be built again */
    }
    CHECK_OK(put(11, 1000)); /* the entry of another key under this name */
    entry_path(path, 10);
    entry_path(other, 11);
    CHECK(rename(other, path) == 0);
    CHECK(!has(10, 1000));
    CHECK(mkdir(path, 0700) == 0); /* not even a file */
    CHECK(!has(10, 1000));
    CHECK(put(10, 1000) == STEER_E_IO);
    CHECK(rmdir(path) == 0);
}

static void test_bound(void) {
    int files;
    setenv("STEER_CACHE_BYTES", "10000", 1);
    for (int i = 100; i < 120; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        CHECK_OK(put(i, 1000));
        CHECK(i == 100 || has(100, 1000)); /* used all the time: stays */
        CHECK(folder_bytes(&files) <= 10000);
    }
    CHECK(has(119, 1000) && has(118, 1000) && !has(101, 1000) && !has(110, 1000));
    CHECK(put(120, 20000) == STEER_E_IO && strstr(steer_error_message(), "STEER_CACHE_BYTES"));
    CHECK(has(119, 1000));
    setenv("STEER_CACHE_BYTES", "0", 1);
    CHECK(!has(119, 1000) && put(121, 10) == STEER_E_IO);
    static const char *const bad[] = {"x", "-1", "1k", " 1", "99999999999999999999", "0x10"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        setenv("STEER_CACHE_BYTES", bad[i], 1);
        CHECK(steer_cache_check() == STEER_E_INVALID_ARGUMENT && strstr(steer_error_message(), bad[i]));
    }
    unsetenv("STEER_CACHE_BYTES");
    CHECK_OK(steer_cache_check());
}

/* What writers that died left behind goes when its time has come. */
static void test_left_behind(void) {
    char old[PATH_MAX], fresh[PATH_MAX];
    snprintf(old, sizeof old, "%s/steer/.steer-1-2-3.tmp", home);
    snprintf(fresh, sizeof fresh, "%s/steer/.steer-1-2-4.tmp", home);
    close(open(old, O_CREAT | O_WRONLY, 0600));
    close(open(fresh, O_CREAT | O_WRONLY, 0600));
    struct timespec times[2] = {{.tv_sec = time(NULL) - 7200}, {.tv_sec = time(NULL) - 7200}};
    CHECK(utimensat(AT_FDCWD, old, times, 0) == 0);
    CHECK_OK(put(130, 10));
    CHECK(access(old, F_OK) != 0 && access(fresh, F_OK) == 0);
    unlink(fresh);
}

/* In a process of its own, whose limits and folders nobody else has. */
static void in_child(int (*body)(void)) {
    int status = -1;
    pid_t child = fork();
    if (child == 0) _exit(body());
    CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* A file that may not grow, as on a full disk: an error, and nothing half written is left. */
static int full_disk(void) {
    int before, after;
    struct rlimit limit = {100000, 100000};
    signal(SIGXFSZ, SIG_IGN);
    folder_bytes(&before);
    setrlimit(RLIMIT_FSIZE, &limit);
    int status = put(140, 1 << 20);
    folder_bytes(&after);
    return !(status == STEER_E_IO && before == after && !has(140, 1 << 20) && put(141, 1000) == STEER_OK);
}

/* Where root writes anyway, a folder that is a file stands for one that cannot be written. */
static int read_only(void) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/read-only", home);
    mkdir(path, 0500);
    setenv("XDG_CACHE_HOME", path, 1);
    if (geteuid() != 0 && (put(150, 10) != STEER_E_NOT_FOUND || has(150, 10))) return 1;
    snprintf(path, sizeof path, "%s/a-file", home);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    setenv("XDG_CACHE_HOME", path, 1);
    if (put(150, 10) == STEER_OK || has(150, 10)) return 1;
    setenv("XDG_CACHE_HOME", "relative", 1); /* counts as not set */
    unsetenv("HOME");
    if (put(150, 10) != STEER_E_NOT_FOUND || has(150, 10)) return 1;
    snprintf(path, sizeof path, "%s/home", home);
    setenv("HOME", path, 1); /* made when it is first needed */
    return !(put(150, 10) == STEER_OK && has(150, 10));
}

/* Many writers and readers of the same few entries, with room for half of them. */
static int crowd_member(void) {
    setenv("STEER_CACHE_BYTES", "40000", 1);
    for (int i = 0; i < 150; i++) {
        if (put(200 + i % 8, 8000) != STEER_OK) return 1;
        has(200 + (i + 3) % 8, 8000); /* whole or not there */
    }
    return check_failures != 0;
}

static void test_crowd(void) {
    pid_t children[6];
    for (int i = 0; i < 6; i++) {
        children[i] = fork();
        if (children[i] == 0) _exit(crowd_member());
    }
    for (int i = 0; i < 6; i++) {
        int status = -1;
        CHECK(waitpid(children[i], &status, 0) == children[i] && status == 0);
    }
}

/* The flag is the script's to see, but it ends the writing. */
static void test_interrupt(void) {
    steer_interrupt_raise();
    CHECK(put(160, 1000) == STEER_E_INTERRUPTED);
    steer_interrupt_clear();
    CHECK(!has(160, 1000));
}

int main(void) {
    if (!mkdtemp(home)) return 1;
    setenv("XDG_CACHE_HOME", home, 1);
    unsetenv("STEER_CACHE_BYTES");
    test_round_trip();
    test_damage();
    test_bound();
    test_left_behind();
    in_child(full_disk);
    in_child(read_only);
    test_crowd();
    test_interrupt();
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", home);
    CHECK(system(command) == 0);
    return check_result();
}
