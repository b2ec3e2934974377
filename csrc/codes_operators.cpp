// What the library tells of itself: what the numbers mean that stand for words in the operators' schemas (compared with Python's
// words when the library loads), and its SIMD levels.

#include <string>

#include <torch/csrc/stable/library.h>

#include "levels.h"
#include "pair.h"
#include "window.h"

namespace lossfold {
namespace {

#define LOSSFOLD_WORD(name) " " #name

std::string codes() {
  return "label.kinds" LOSSFOLD_SUMS(LOSSFOLD_WORD)
         "\ndense.kinds" LOSSFOLD_DENSE_SUMS(LOSSFOLD_WORD)
         "\ndense.links" LOSSFOLD_LINKS(LOSSFOLD_WORD)
         "\npair.kinds" LOSSFOLD_PAIR_KINDS(LOSSFOLD_WORD)
         "\nwindow.kinds" LOSSFOLD_WINDOW_SUMS(LOSSFOLD_WORD) "\n";
}

std::string simd_level() {
  const char* const names[] = {"baseline", "x86-64-v3", "x86-64-v4"};
  return names[static_cast<int>(level())];
}

std::string simd_levels() { return words_up_to(highest_level()); }

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(lossfold_r6, CompositeExplicitAutograd, m) {
  m.impl("codes", TORCH_BOX(&codes));
  m.impl("simd_level", TORCH_BOX(&simd_level));
  m.impl("simd_levels", TORCH_BOX(&simd_levels));
}

}  // namespace lossfold
