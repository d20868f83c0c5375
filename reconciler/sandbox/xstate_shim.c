/* Preloaded into user-mode Linux: completes the register state that ptrace() writes.
 *
 * The kernel reads NT_X86_XSTATE into a buffer that ends before the AMX tiles; what does not fit is cut off. The host takes
 * a state back only in full length, and fails the short one with EFAULT. Here the rest is added: zeroes, with the features
 * that live there marked as unused. Nothing is lost by that, since no process inside can use AMX: it would have to ask the
 * host for permission with arch_prctl(), which the kernel in between does not pass on.
 *
 * cc -O2 -shared -fPIC -o xstate_shim.so xstate_shim.c */
#define _GNU_SOURCE
#include <cpuid.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <errno.h>

#define XSTATE_SET 0x202L     /* NT_X86_XSTATE */
#define LONGEST_STATE 65536   /* more than any processor has; the host cuts to its own length */
#define HEADER_AT 512         /* of the XSAVE header: the features in use, one bit each */
#define HEADER_END 576

static long host_ptrace(long request, long pid, void *address, void *data) {
  return syscall(SYS_ptrace, request, pid, address, data);
}

/* The features whose part of the state (standard format) ends within length bytes. */
static uint64_t features_within(size_t length) {
  uint64_t features = 3; /* x87 and SSE: in the legacy area */
  for (unsigned number = 2; number < 63; number++) {
    unsigned size, offset, flags, unused;
    __cpuid_count(0xd, number, size, offset, flags, unused);
    if (size && !(flags & 1) && (size_t)offset + size <= length) features |= 1ULL << number;
  }
  return features;
}

static long set_state(long pid, const struct iovec *given) {
  static unsigned char state[LONGEST_STATE]; /* the kernel has one thread that traces */
  static uint64_t features;
  static size_t known_length;
  if (given->iov_len < HEADER_END || given->iov_len > LONGEST_STATE)
    return host_ptrace(PTRACE_SETREGSET, pid, (void *)XSTATE_SET, (void *)given);
  if (known_length != given->iov_len) {
    known_length = given->iov_len;
    features = features_within(known_length);
    memset(state, 0, sizeof state);
  }
  memcpy(state, given->iov_base, given->iov_len);
  uint64_t used;
  memcpy(&used, state + HEADER_AT, sizeof used);
  used &= features;
  memcpy(state + HEADER_AT, &used, sizeof used);
  struct iovec whole = {state, sizeof state};
  return host_ptrace(PTRACE_SETREGSET, pid, (void *)XSTATE_SET, &whole);
}

long ptrace(enum __ptrace_request request, ...) {
  va_list arguments;
  va_start(arguments, request);
  long pid = va_arg(arguments, int);
  void *address = va_arg(arguments, void *);
  void *data = va_arg(arguments, void *);
  va_end(arguments);
  if (request == PTRACE_SETREGSET && address == (void *)XSTATE_SET) return set_state(pid, data);
  if (request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER) {
    long word; /* the system call stores it, the C library's function returns it */
    if (host_ptrace(request, pid, address, &word) < 0) return -1;
    errno = 0;
    return word;
  }
  return host_ptrace(request, pid, address, data);
}
