// A view: the numbered list of a job's members. Only the coordinator opens one; every message names the view it was
// sent in, so that nothing from an earlier membership is mistaken for news.
#pragma once
#include <cstdint>
#include <vector>

namespace dtrain {

using Step = int64_t;

struct View {
  int64_t number = 0;      // rises by one with every change
  std::vector<int> ranks;  // ascending
};

}  // namespace dtrain
