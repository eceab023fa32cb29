//! The runtime never allocates: neither to parse, nor to set up, nor to run.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use pare_runtime::{Isa, Model, Session};
use pare_tests::blob::{Builder, every_operator};
use pare_tests::problems::{ConvProblem, ConvSpec};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting for each thread.
struct Counting;

impl Counting {
    fn count() {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
    }
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches a cell of its own alone.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Counting::count();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Counting::count();
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Counting::count();
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        Counting::count();
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `what` allocates or frees.
fn allocations(what: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    what();
    ALLOCATIONS.get() - before
}

fn check(blob: &[u8]) {
    let mut arena = vec![0; Model::parse(blob).expect("a blob of the builder").arena_bytes()];
    for isa in Isa::available() {
        let made = allocations(|| {
            let model = Model::parse(blob).expect("a blob of the builder");
            let mut session = Session::with_isa(model, &mut arena, isa).expect("room for every kernel");
            session.input(0).fill(5);
            session.run();
            assert!(!session.output(0).is_empty());
        });
        assert_eq!(made, 0, "{isa} allocates");
    }
}

#[test]
fn allocations_are_seen() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1u8; 10]))), 2);
}

#[test]
fn every_operator_runs_without_the_heap() {
    check(&every_operator());
}

#[test]
fn every_convolution_kernel_runs_without_the_heap() {
    use pare_runtime::format::{Layout, Shape, WeightFormat};
    for format in WeightFormat::ALL {
        for layout in [Layout::Plain, Layout::Panels] {
            let input = Shape { h: 9, w: 11, c: 20 };
            let dense = ConvSpec::dense(input, 24, 3, 1, format, layout);
            let strided = ConvSpec::dense(Shape { c: 24, ..input }, 40, 1, 2, format, layout);
            let depthwise = ConvSpec::depthwise(Shape { h: 5, w: 6, c: 40 }, 3, 1, format, layout);
            let mut builder = Builder::default();
            let image = builder.tensor(input, 3);
            builder.inputs = vec![image];
            let wide = builder.conv(image, &ConvProblem::new(dense));
            let small = builder.conv(wide, &ConvProblem::new(strided));
            let last = builder.conv(small, &ConvProblem::new(depthwise));
            builder.outputs = vec![last];
            check(&builder.finish());
        }
    }
}
