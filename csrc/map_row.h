// One class's numbers of a map, as the kernels read them: where they lie if that can be, half precision widened on the way.
// See simd/lanes.h for the rules of kernel files.
#pragma once

#include "storage.h"

namespace lossfold {
namespace {

template <class T>
constexpr Type own_type = sizeof(T) == 8 ? Type::f64 : Type::f32;

template <class T>
struct MapRow {
  using V = typename Lanes<T>::V;
  const char* from = nullptr;  // where there is no map
  Type type = own_type<T>;

  LOSSFOLD_INLINE explicit operator bool() const { return from != nullptr; }
  static LOSSFOLD_INLINE bool reads(Type type) { return type == own_type<T> || (sizeof(T) == 4 && (type == Type::f16 || type == Type::bf16)); }
  LOSSFOLD_INLINE V at(long i) const {
    if constexpr (sizeof(T) == 4) {
      if (type == Type::f16) return widen_all<T>((const Half*)from + i);
      if (type == Type::bf16) return widen_all<T>((const BFloat*)from + i);
    }
    return widen_all<T>((const T*)from + i);
  }
};

}  // namespace
}  // namespace lossfold
