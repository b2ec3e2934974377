// What the numbers mean that stand for words in the operators' schemas: compared with Python's words when the library loads.

#include <string>

#include <torch/csrc/stable/library.h>

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

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(lossfold_r5, CompositeExplicitAutograd, m) { m.impl("codes", TORCH_BOX(&codes)); }

}  // namespace lossfold
