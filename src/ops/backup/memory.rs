//! How a backup shares out the memory that it may take: the formula of `design`, from which everything that takes much of it
//! gets its number.

const MIB: u64 = 1 << 20;
/// The program, its runtime, and the reader of a parent's tree.
const PROGRAM: u64 = 10 * MIB;
/// Claims and index entries of chunks stored since the last index flush.
const CLAIMS: u64 = 26 * MIB;
/// Room of a pack beyond its target, of the encoded frame that did not fit.
const PACK_SLACK: u64 = 2 * MIB;
/// Packs are made smaller than this part of the memory.
const PACK_SHARE: u64 = 8;
/// And no smaller than this, because every pack is a request.
const PACK_LEAST: u64 = 8 * MIB;
/// Packs in memory besides those on their way: one of data and one of trees being filled, one being
/// checked or waiting.
const PACKS_HELD: u64 = 3;
/// Threads that packs leave room for beside a large file, where there are so many.
const THREADS_LEAST: u64 = 4;
/// Packs on their way at once, at most.
const IN_FLIGHT_MAX: u64 = 16;

/// How content is cut, on which it depends what reading and sealing it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cutting {
    /// Into chunks of 1 MiB at most.
    Chunks,
    /// Streams into windows of up to 8 MiB, beside what the last night left; large files afterwards, one at a time.
    Windows,
    /// Large files alone so, one at a time.
    LargeFiles,
}

impl Cutting {
    /// A thread that reads, compresses and seals: compressors, buffers, a frame and a file being read. The check of a pack takes none
    /// of its own.
    fn each_thread(self) -> u64 {
        match self {
            Cutting::Chunks | Cutting::LargeFiles => 8 * MIB,
            Cutting::Windows => 20 * MIB,
        }
    }

    /// A stream that is read: its window and what was read ahead, its pieces, new rows, what the last night left and what is left for the
    /// next. What little the first one takes otherwise is in that of its thread.
    fn each_stream(self) -> u64 {
        match self {
            Cutting::Chunks | Cutting::LargeFiles => 5 * MIB,
            Cutting::Windows => 18 * MIB,
        }
    }

    /// What is taken once: by windows waiting for a thread; or by a large file, for its window, what the last night left, and new rows.
    fn once(self) -> u64 {
        match self {
            Cutting::Chunks => 0,
            Cutting::Windows => 8 * MIB,
            Cutting::LargeFiles => 30 * MIB,
        }
    }

    /// Streams that are free.
    fn free_streams(self) -> u64 {
        match self {
            Cutting::Chunks | Cutting::LargeFiles => 1,
            Cutting::Windows => 0,
        }
    }
}

/// What each part of a backup may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shares {
    /// Size at which a pack is complete, in bytes.
    pub(super) pack_target_bytes: u32,
    /// Packs being stored at the same time.
    pub(super) packs_in_flight: usize,
    /// Threads that read and compress.
    pub(super) threads: usize,
    /// Streams read at the same time.
    pub(super) jobs: usize,
}

/// Shares out `memory_bytes` for packs of at most `pack_target_bytes`, with at most so many threads and streams.
pub(super) fn share(
    memory_bytes: u64,
    pack_target_bytes: u32,
    threads: usize,
    jobs: usize,
    cutting: Cutting,
) -> Shares {
    let (each_thread, each_stream) = (cutting.each_thread(), cutting.each_stream());
    let whole = memory_bytes.saturating_sub(PROGRAM + CLAIMS + cutting.once());
    let jobs = jobs.max(1) as u64;
    let mut target = memory_bytes / PACK_SHARE;
    // Packs are smaller where they would leave too little to read streams or a large file with.
    let beside = match cutting {
        Cutting::Chunks => u64::MAX,
        Cutting::Windows => whole.saturating_sub(each_thread + jobs * each_stream) / (PACKS_HELD + 1),
        Cutting::LargeFiles => {
            whole.saturating_sub(each_thread * (threads as u64).clamp(1, THREADS_LEAST)) / (PACKS_HELD + 2)
        }
    };
    target = target.min(beside.saturating_sub(PACK_SLACK) & !(MIB - 1));
    let target = u64::from(pack_target_bytes).min(target.max(PACK_LEAST));
    let pack = target + PACK_SLACK;
    // Streams come first, because they are asked for; of threads as many as leave two packs on their way, but two if they can.
    let packs = |in_flight: u64| (PACKS_HELD + in_flight) * pack;
    let streams_fit = whole.saturating_sub(packs(1) + each_thread) / each_stream;
    let jobs = jobs.min((cutting.free_streams() + streams_fit).max(1));
    let whole = whole.saturating_sub((jobs - cutting.free_streams()) * each_stream);
    let threads_fit = |in_flight| whole.saturating_sub(packs(in_flight)) / each_thread;
    let threads = (threads.max(1) as u64).min(threads_fit(2).max(threads_fit(1).min(2)).max(1));
    let in_flight = whole.saturating_sub(threads * each_thread + packs(0)) / pack;
    let narrow = |number: u64| usize::try_from(number).expect("no more than was asked for");
    Shares {
        pack_target_bytes: u32::try_from(target).expect("no larger than the one given"),
        packs_in_flight: narrow(in_flight.clamp(1, IN_FLIGHT_MAX)),
        threads: narrow(threads),
        jobs: narrow(jobs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What these shares take at most.
    fn sum(shares: &Shares, cutting: Cutting) -> u64 {
        let packs = PACKS_HELD + shares.packs_in_flight as u64;
        PROGRAM
            + CLAIMS
            + cutting.once()
            + packs * (u64::from(shares.pack_target_bytes) + PACK_SLACK)
            + shares.threads as u64 * cutting.each_thread()
            + (shares.jobs as u64 - cutting.free_streams()) * cutting.each_stream()
    }

    #[test]
    fn the_shares_are_never_more_than_the_whole() {
        for memory in [128, 130, 160, 192, 256, 300, 512, 1024, 4096, 1 << 20] {
            for target in [1, 8, 16, 32, 64, 512] {
                for threads in [1, 2, 4, 16, 128] {
                    for (jobs, cutting) in [0, 1, 2, 8, 64].into_iter().flat_map(|jobs| {
                        [Cutting::Chunks, Cutting::Windows, Cutting::LargeFiles].map(|cutting| (jobs, cutting))
                    }) {
                        let shares = share(memory * MIB, target << 20, threads, jobs, cutting);
                        let case = format!(
                            "{memory} MiB, packs of {target}, {threads} threads, {jobs} jobs, {cutting:?}: {shares:?}"
                        );
                        let sum = sum(&shares, cutting);
                        assert!(sum <= memory * MIB, "{case}: {}", sum / MIB);
                        assert!(shares.threads <= threads && shares.jobs <= jobs.max(1), "{case}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_usual_runs_get() {
        let shares = |memory: u64, threads, jobs, cutting| {
            let Shares { pack_target_bytes, packs_in_flight, threads, jobs } =
                share(memory * MIB, 32 << 20, threads, jobs, cutting);
            (u64::from(pack_target_bytes) / MIB, packs_in_flight, threads, jobs)
        };
        assert_eq!(shares(128, 2, 1, Cutting::Chunks), (16, 1, 2, 1));
        assert_eq!(shares(128, 2, 8, Cutting::Chunks), (16, 1, 1, 3));
        assert_eq!(shares(256, 2, 1, Cutting::Chunks), (32, 3, 2, 1));
        assert_eq!(shares(256, 2, 8, Cutting::Chunks), (32, 1, 2, 8));
        assert_eq!(shares(256, 16, 1, Cutting::Chunks), (32, 2, 6, 1));
        assert_eq!(shares(1024, 16, 8, Cutting::Chunks), (32, 16, 16, 8));
        assert_eq!(shares(128, 2, 1, Cutting::Windows), (9, 1, 1, 1));
        assert_eq!(shares(128, 2, 8, Cutting::Windows), (8, 1, 1, 1));
        assert_eq!(shares(256, 2, 1, Cutting::Windows), (32, 1, 2, 1));
        assert_eq!(shares(256, 2, 8, Cutting::Windows), (10, 1, 1, 8));
        assert_eq!(shares(1024, 16, 8, Cutting::Windows), (32, 12, 16, 8));
        assert_eq!(shares(128, 2, 1, Cutting::LargeFiles), (8, 1, 2, 1));
        assert_eq!(shares(256, 2, 1, Cutting::LargeFiles), (32, 2, 2, 1));
        assert_eq!(shares(256, 16, 1, Cutting::LargeFiles), (29, 2, 4, 1));
        assert_eq!(shares(1024, 16, 1, Cutting::LargeFiles), (32, 16, 16, 1));
    }
}
