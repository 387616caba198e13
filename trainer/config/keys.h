// The one table of every key of the configuration. Parser, checks, --help, reference page, JSON schema, resolved.yaml,
// the configuration's hash and the comparison at a resume are derived from it; a new key is one row. Read-only; safe to call from any
// thread.
#pragma once
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/value.h"

namespace dtrain {

// What a key takes, beside the words of Key::words. In the resolved Value it is held as said.
enum class KeyType {
  kSection,  // a map of further keys of the table
  kWord,     // one of the words, nothing else (text)
  kBool,     // true, false
  kInt,      // an integer
  kNumber,   // a finite number (double)
  kText,     // text
  kBytes,    // "4MB" (integer, in bytes); kB, MB, GB and KiB, MiB, GiB alike are powers of 1024
  kTime,     // "5s" (double, in seconds)
  kSpan,     // "10ep" (text, in FormatTrainingSpan's form)
  kSpans,    // a span or a list of them (list of text)
  kInts,     // a list of integers, or one (list)
  kNumbers,  // a list of numbers, or one (list of double)
  kTexts,    // a list of texts, or one (list of text)
  kMaps,     // a list of maps of scalars and lists (list of maps)
};

struct Key {
  std::string path;  // "data.batch.global"
  KeyType type = KeyType::kText;
  std::string default_value;  // as written in YAML; "" for what Config derives (see `derived`) or the user must give
  std::string help;           // one line, no full stop
  std::string words;          // "auto|never": what is taken beside the type, or all there is of a kWord
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool above_min = false;  // min itself is too little
  bool below_max = false;  // max itself is too much
  bool nullable = false;
  bool no_time = false;     // of a span: only epochs and steps
  std::string unit;         // of a plain number: "samples"
  std::string only_for;     // "optim.type=sgd|rmsprop": with another type the key has no meaning and is refused
  std::string derived;      // where the default comes from, if default_value is ""
  bool may_change = false;  // on a resume
  bool in_hash = true;      // bears on the result of a run
  std::string unavailable;  // "ps|async": words of it whose function is not built; "*": anything but the default

  std::string_view name() const;     // "global"
  std::string_view section() const;  // "data.batch"; "" for a section of the first level
};

// In the order in which everything is printed. A section's row stands before those of its keys.
std::span<const Key> Keys();

// Null if there is none.
const Key* FindKey(std::string_view path);

// The keys and sections right under `section` ("" for the first level), in the order of the table.
std::vector<const Key*> KeysOf(std::string_view section);

// Models and data sets that come with dtrain. Under `model:` and `data:` of another type any further key is taken: it belongs to the user's
// own.
bool IsBuiltInModel(std::string_view type);
bool IsBuiltInDataset(std::string_view dataset);

// The key that decides which keys of `section` have a meaning ("model.type", "data.dataset") if `section` is one where the
// user's own types have keys of their own; "" otherwise.
std::string_view OwnTypeKey(std::string_view section);

// Whether `key` has a meaning in `values` (Key::only_for); what decides must be in `values` already.
bool AppliesTo(const Key& key, const Value& values);

// "an integer >= 1 or auto", for errors and pages.
std::string Expected(const Key& key);

}  // namespace dtrain
