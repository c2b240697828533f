/* A monitor spends its life waiting, and there may be thousands: what it does not need for that is given back. */
#include <elf.h>
#include <link.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "monitor/monitor.h"

#define PAGE 4096ul

static void drop(uintptr_t from, uintptr_t to) {
    from = (from + PAGE - 1) & ~(PAGE - 1);
    to &= ~(PAGE - 1);
    if (from < to)
        (void)madvise((void *)from, to - from, MADV_DONTNEED);
}

/* Code and constants come back from the file when they are needed. */
static void drop_text(void) {
    const ElfW(Phdr) *headers = (const void *)getauxval(AT_PHDR);
    unsigned long n = getauxval(AT_PHNUM);
    uintptr_t base = 0;
    for (unsigned long i = 0; headers && i < n; i++)
        if (headers[i].p_type == PT_LOAD && headers[i].p_offset == 0) /* the file's head, right before the headers */
            base = (uintptr_t)headers - sizeof(ElfW(Ehdr)) - headers[i].p_vaddr;
    for (unsigned long i = 0; headers && i < n; i++)
        if (headers[i].p_type == PT_LOAD && !(headers[i].p_flags & PF_W))
            drop(base + headers[i].p_vaddr, base + headers[i].p_vaddr + headers[i].p_memsz);
}

#define STACK_USED 262144

void monitor_rest(struct monitor *m) {
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    pump_rest(m);
    drop(here - STACK_USED, here - PAGE);
    drop_text();
}
