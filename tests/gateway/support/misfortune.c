/* What can befall a process, put between it and the C library (LD_PRELOAD), so that no privileges are needed:
 *
 *   MISFORTUNE_CLOCK=FILE   the wall clock is off by the number of seconds that stands in FILE
 *   MISFORTUNE_SYNC_MS=N    a forced write takes N ms longer
 *   MISFORTUNE_SYNC_FAILS=FILE  forced writes fail while FILE is there
 *   MISFORTUNE_DISK=DIR     files below DIR live on a disk that forgets: DIR.disk receives what was forced to it and
 *                           nothing else. To cut the power, kill the process and put DIR.disk in the place of DIR.
 *
 * The model of the disk is harsh: bytes and lengths reach it by fsync or fdatasync of their file alone, and names and
 * their removal by fsync of their directory, with those of the directories above it (as journaling file systems do). A
 * file whose name was not forced is lost even if its bytes were. A real disk may keep more. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int real_sync(const char *name, int fd) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
  return real(fd);
}

int clock_gettime(clockid_t clock, struct timespec *at) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int result = real(clock, at);
  const char *path = clock == CLOCK_REALTIME ? getenv("MISFORTUNE_CLOCK") : NULL;
  if (path && result == 0) {
    char text[32] = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
      if (read(fd, text, sizeof text - 1) > 0) at->tv_sec += atol(text);
      close(fd);
    }
  }
  return result;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* The place on the disk of a path below DIR; 0 when it is elsewhere. */
static int on_disk(const char *path, char *out) {
  const char *root = getenv("MISFORTUNE_DISK");
  if (!root) return 0;
  size_t length = strlen(root);
  if (strncmp(path, root, length) != 0 || (path[length] != '/' && path[length] != 0)) return 0;
  snprintf(out, PATH_MAX, "%s.disk%s", root, path + length);
  return 1;
}

static void copy(int from, const char *path) {
  static char buffer[1 << 20];
  char draft[PATH_MAX + 8];
  snprintf(draft, sizeof draft, "%s.part", path);
  int to = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (to < 0) return;
  off_t at = 0;
  ssize_t got;
  while ((got = pread(from, buffer, sizeof buffer, at)) > 0) {
    if (pwrite(to, buffer, (size_t)got, at) != got) break;
    at += got;
  }
  close(to);
  rename(draft, path);
}

/* The bytes of a file: in an inode of their own (DIR.disk/.inodes/NUMBER), named when its directory is forced. */
static void inode_path(const struct stat *stat, char *out) {
  snprintf(out, PATH_MAX, "%s.disk.inodes/%lu", getenv("MISFORTUNE_DISK"), (unsigned long)stat->st_ino);
}

/* At every moment the name stands for the old bytes or the new ones: a kill in between is no disk that forgets names. */
static void name(const char *inode, const char *path) {
  char draft[PATH_MAX + 264];
  snprintf(draft, sizeof draft, "%s.name", path);
  unlink(draft);
  if (link(inode, draft) != 0) return;
  rename(draft, path);
  unlink(draft);
}

static void sync_file(int fd, const struct stat *stat, const char *path) {
  char disk[PATH_MAX], inode[PATH_MAX], inodes[PATH_MAX];
  if (!on_disk(path, disk)) return;
  snprintf(inodes, sizeof inodes, "%s.disk.inodes", getenv("MISFORTUNE_DISK"));
  mkdir(inodes, 0700);
  inode_path(stat, inode);
  int readable = open(path, O_RDONLY | O_CLOEXEC);
  if (readable < 0) return;
  struct stat same;
  if (fstat(readable, &same) == 0 && same.st_ino == stat->st_ino) {
    copy(readable, inode);
    /* A name that is on the disk shows the new bytes. */
    if (access(disk, F_OK) == 0) {
      name(inode, disk);
    }
  }
  close(readable);
}

static void make_directories(const char *path) {
  char part[PATH_MAX];
  for (size_t at = 1; path[at]; at++) {
    if (path[at] != '/') continue;
    memcpy(part, path, at);
    part[at] = 0;
    mkdir(part, 0700);
  }
  mkdir(path, 0700);
}

static void sync_names(const char *path) {
  char disk[PATH_MAX], there[PATH_MAX + 256], here[PATH_MAX + 256], inode[PATH_MAX];
  if (!on_disk(path, disk)) return;
  make_directories(disk);
  struct dirent *item;
  DIR *names = opendir(disk);
  while (names && (item = readdir(names))) {
    if (item->d_name[0] == '.') continue;
    snprintf(here, sizeof here, "%s/%s", path, item->d_name);
    snprintf(there, sizeof there, "%s/%s", disk, item->d_name);
    if (access(here, F_OK) != 0 && unlink(there) != 0) {
      char command[2 * PATH_MAX];
      snprintf(command, sizeof command, "rm -rf '%s'", there);
      unsetenv("LD_PRELOAD");
      if (system(command) != 0) continue;
    }
  }
  if (names) closedir(names);
  names = opendir(path);
  while (names && (item = readdir(names))) {
    if (item->d_name[0] == '.') continue;
    struct stat stat;
    snprintf(here, sizeof here, "%s/%s", path, item->d_name);
    snprintf(there, sizeof there, "%s/%s", disk, item->d_name);
    if (lstat(here, &stat) != 0) continue;
    if (S_ISDIR(stat.st_mode)) {
      mkdir(there, 0700);
      continue;
    }
    inode_path(&stat, inode);
    if (access(inode, F_OK) == 0) {
      name(inode, there);
    } else if (access(there, F_OK) != 0) {
      /* The name is there, its bytes are not. */
      close(open(there, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    }
  }
  if (names) closedir(names);
}

static int force(const char *name, int fd) {
  const char *slow = getenv("MISFORTUNE_SYNC_MS");
  if (slow) usleep((useconds_t)atoi(slow) * 1000);
  const char *fails = getenv("MISFORTUNE_SYNC_FAILS");
  if (fails && access(fails, F_OK) == 0) {
    errno = EIO;
    return -1;
  }
  int result = real_sync(name, fd);
  if (result != 0 || !getenv("MISFORTUNE_DISK")) return result;
  char link_path[64], path[PATH_MAX] = {0};
  struct stat stat;
  snprintf(link_path, sizeof link_path, "/proc/self/fd/%d", fd);
  if (readlink(link_path, path, sizeof path - 1) < 0 || fstat(fd, &stat) != 0) return result;
  int saved = errno;
  pthread_mutex_lock(&lock);
  if (S_ISDIR(stat.st_mode)) {
    sync_names(path);
  } else {
    sync_file(fd, &stat, path);
  }
  pthread_mutex_unlock(&lock);
  errno = saved;
  return result;
}

int fsync(int fd) { return force("fsync", fd); }
int fdatasync(int fd) { return force("fdatasync", fd); }
