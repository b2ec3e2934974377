// Where labels lie among scores of another number, along one axis. Used by kernel files, too: see simd/lanes.h for their rules.
#pragma once

namespace lossfold {
namespace {

struct Place {  // at `node` plus `t` of the way to the next node
  long node;
  double t;
};

// Inlined, because every chunk asks it for all of its columns.
[[gnu::always_inline]] inline Place locate(long i, long labels, long scores, bool align_corners) {
  double at = 0;
  if (!align_corners) at = ((double)i + 0.5) * (double)scores / (double)labels - 0.5;
  else if (labels > 1) at = (double)i * (double)(scores - 1) / (double)(labels - 1);
  if (at < 0) at = 0;
  const long node = (long)at;
  return node < scores - 1 ? Place{node, at - (double)node} : Place{scores - 1, 0};  // both nodes are the last one
}

}  // namespace
}  // namespace lossfold
