/* From reset to main on RISC-V. */
#include "semihosting.h"

extern uint32_t data_begin, data_end, data_source, bss_begin, bss_end;
int main(void);

/* The three instructions are the call, in this encoding; they must share a page. */
static uintptr_t semihosting_call(uintptr_t operation, const void *argument) {
    register uintptr_t a0 __asm__("a0") = operation;
    register const void *a1 __asm__("a1") = argument;
    __asm__ volatile(".option push\n .option norvc\n .balign 16\n"
                     "slli zero, zero, 0x1f\n ebreak\n srai zero, zero, 7\n"
                     ".option pop"
                     : "+r"(a0)
                     : "r"(a1)
                     : "memory");
    return a0;
}

__attribute__((used)) static void begin(void) {
    const uint32_t *from = &data_source;
    for (uint32_t *to = &data_begin; to < &data_end;)
        *to++ = *from++;
    for (uint32_t *to = &bss_begin; to < &bss_end;)
        *to++ = 0;
    leave((uintptr_t)main());
}

__attribute__((used, aligned(4))) static void trap(void) {
    leave(1);
}

__attribute__((naked, section(".reset"), used)) void reset(void) {
    __asm__ volatile(".option push\n .option norelax\n la gp, global_pointer\n .option pop\n"
                     "la sp, stack_top\n la t0, trap\n csrw mtvec, t0\n j begin");
}
