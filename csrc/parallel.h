// Work cut into pieces that torch's threads take when they are free. Where the pieces are cut follows the shapes alone, and
// what they give is added in their order: the same bits on any number of threads, whoever takes which piece.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <memory>

namespace lossfold {
namespace {

constexpr int64_t values_a_thread = 1 << 16;  // with fewer, waking it takes longer than it helps

// How many threads pieces that read so many values are worth.
inline int64_t workers_for(int64_t pieces, int64_t values) {
  const int64_t worth = std::min(pieces, values / values_a_thread);
  return worth <= 1 ? 1 : std::min<int64_t>(worth, torch::stable::get_num_threads());
}

// work(piece, memory, worker) for every piece. No share is dealt out before: a thread whose core is busy with something else
// takes few pieces, and nobody waits for it but for the one that it has in hand. memory: of each worker, 64-aligned.
template <class Work>
void in_parallel(int64_t pieces, int64_t workers, int64_t bytes, const Work& work) {
  if (pieces <= 0) return;
  std::atomic<int64_t> next{0};
  const auto take = [&](int64_t worker, int64_t) {
    std::unique_ptr<char[]> memory(new char[bytes + 64]);
    char* const aligned = reinterpret_cast<char*>((reinterpret_cast<size_t>(memory.get()) + 63) / 64 * 64);
    for (int64_t piece; (piece = next.fetch_add(1, std::memory_order_relaxed)) < pieces;) work(piece, aligned, worker);
  };
  if (workers == 1) take(0, 1);
  else torch::stable::parallel_for(0, workers, 1, take);
}

}  // namespace
}  // namespace lossfold
