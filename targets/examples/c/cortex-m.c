/* From reset to main on a Cortex-M. */
#include "semihosting.h"

extern uint32_t data_begin, data_end, data_source, bss_begin, bss_end, stack_top;
int main(void);

static uintptr_t semihosting_call(uintptr_t operation, const void *argument) {
    register uintptr_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt #0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static void reset(void) {
    const uint32_t *from = &data_source;
    for (uint32_t *to = &data_begin; to < &data_end;)
        *to++ = *from++;
    for (uint32_t *to = &bss_begin; to < &bss_end;)
        *to++ = 0;
#ifdef __ARM_FP
    *(volatile uint32_t *)0xe000ed88 = 0x00f00000; /* CPACR: full access to the floating-point unit. */
    __asm__ volatile("dsb\n isb");
#endif
    leave((uintptr_t)main());
}

static void fault(void) {
    leave(1);
}

/* The stack, reset, and the handlers of all exceptions of the core. */
__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    &stack_top, reset, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0, fault, fault,
};
