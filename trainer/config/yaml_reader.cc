#include "trainer/config/yaml_reader.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <sstream>
#include <utility>

#include "base/text.h"

namespace dtrain {
namespace {

// The length of the UTF-8 character at the start of `text` (RFC 3629); 0 if it is none, or a control character that no
// text has.
size_t CharacterBytes(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<uint8_t>(text[i]) : 0; };
  const auto continues = [&](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const uint8_t first = byte(0);
  if (first < 0x80) return first >= 0x20 || first == '\n' || first == '\r' || first == '\t' ? (first == 0x7F ? 0 : 1) : 0;
  if (first >= 0xC2 && first <= 0xDF) return continues(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    const bool overlong = first == 0xE0 && byte(1) < 0xA0, surrogate = first == 0xED && byte(1) >= 0xA0;
    return !overlong && !surrogate && continues(1) && continues(2) ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    const bool overlong = first == 0xF0 && byte(1) < 0x90, beyond = first == 0xF4 && byte(1) >= 0x90;
    return !overlong && !beyond && continues(1) && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

// yaml-cpp counts bytes from 0; people count characters from 1.
class Marks {
 public:
  explicit Marks(std::string_view text) : text_(text) {}

  YamlMark At(const YAML::Mark& mark) const {
    if (mark.is_null()) return {};
    int column = 1;
    const size_t begin = static_cast<size_t>(std::max(0, mark.pos - mark.column)), end = std::min<size_t>(mark.pos, text_.size());
    for (size_t i = begin; i < end; ++i) column += (static_cast<uint8_t>(text_[i]) & 0xC0) != 0x80;
    return {mark.line + 1, column};
  }

  // Whether the quoted text that begins at `mark` ends; yaml-cpp takes all that follows as its content where it does not.
  bool IsClosed(const YAML::Mark& mark) const {
    const size_t begin = static_cast<size_t>(std::max(0, mark.pos));
    if (begin >= text_.size() || (text_[begin] != '"' && text_[begin] != '\'')) return true;  // a block scalar
    const char quote = text_[begin];
    for (size_t i = begin + 1; i < text_.size(); ++i) {
      if (quote == '"' && text_[i] == '\\') {
        ++i;
      } else if (text_[i] == quote) {
        if (quote == '"' || i + 1 == text_.size() || text_[i + 1] != quote) return true;
        ++i;  // '' is a quote inside
      }
    }
    return false;
  }

 private:
  std::string_view text_;
};

class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(std::string_view text, YamlResult* result) : marks_(text), result_(result) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { Put({.at = marks_.At(mark)}); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    Refuse(mark, "an alias (*name) is not taken here; write the value out");
    Put({.at = marks_.At(mark)});
  }
  void OnAnchor(const YAML::Mark& mark, const std::string& name) override {
    Refuse(mark, Cat("an anchor (&", name, ") is not taken here; write the value out where it is needed"));
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, const std::string& value) override {
    RefuseTag(mark, tag);
    const bool quoted = tag == "!";
    if (quoted && !marks_.IsClosed(mark)) Refuse(mark, "not YAML: the quote is never closed");
    // Escapes in quotes can make what the text itself cannot hold.
    if (std::any_of(value.begin(), value.end(),
                    [](char c) { return (static_cast<uint8_t>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7F; })) {
      Refuse(mark, "a control character is not taken here");
    }
    if (!quoted && (value == "null" || value == "~" || value == "Null" || value == "NULL" || value.empty())) {
      Put({.at = marks_.At(mark), .text = value});
    } else {
      Put({.kind = YamlNode::Kind::kScalar, .at = marks_.At(mark), .text = value, .quoted = quoted});
    }
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, YAML::EmitterStyle::value) override {
    Open(mark, tag, YamlNode::Kind::kList);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, YAML::EmitterStyle::value) override {
    Open(mark, tag, YamlNode::Kind::kMap);
  }
  void OnMapEnd() override { Close(); }

 private:
  // A list or map that is being read. A map's keys and values arrive in turn.
  struct Frame {
    YamlNode node;
    YamlEntry entry;
    bool has_key = false;
    bool is_full = false;
  };

  void Refuse(const YAML::Mark& mark, std::string text) { result_->problems.push_back({marks_.At(mark), std::move(text)}); }

  void RefuseTag(const YAML::Mark& mark, const std::string& tag) {
    if (!tag.empty() && tag != "?" && tag != "!") Refuse(mark, Cat("a tag (", tag, ") is not taken here; leave it out"));
  }

  void Open(const YAML::Mark& mark, const std::string& tag, YamlNode::Kind kind) {
    RefuseTag(mark, tag);
    if (frames_.size() == kYamlDepthMax) Refuse(mark, Cat("nested deeper than ", kYamlDepthMax, " levels"));
    frames_.push_back({.node = {.kind = kind, .at = marks_.At(mark)}});
  }

  void Close() {
    YamlNode node = std::move(frames_.back().node);
    frames_.pop_back();
    // What lies too deep was reported; it is dropped, so that nobody who walks the tree has to fear for his stack.
    if (frames_.size() >= kYamlDepthMax) node = {.at = node.at};
    Put(std::move(node));
  }

  void Put(YamlNode node) {
    if (frames_.empty()) {
      result_->root = std::move(node);
      return;
    }
    Frame& frame = frames_.back();
    if (frame.node.kind == YamlNode::Kind::kList) {
      frame.node.items.push_back(std::move(node));
    } else if (!frame.has_key) {
      frame.has_key = true;
      frame.entry = {.key = node.text, .at = node.at};
      if (node.kind != YamlNode::Kind::kScalar) {
        result_->problems.push_back({node.at, "a key must be a word"});
      } else if (node.text == "<<") {
        result_->problems.push_back({node.at, "a merge key (<<) is not taken here; write the keys out"});
      }
    } else {
      frame.has_key = false;
      frame.entry.value = std::move(node);
      PutEntry(frame);
    }
  }

  // "optim.schedule.type" for the entry that `frame` holds; the maps around it hold the keys that lead there.
  std::string Path(const Frame& frame) const {
    std::string path;
    for (const Frame& outer : frames_) {
      if (outer.has_key) path += outer.entry.key + ".";
    }
    return path + frame.entry.key;
  }

  void PutEntry(Frame& frame) {
    YamlMark& value_at = frame.entry.value.at;
    if (frame.entry.value.kind == YamlNode::Kind::kNull && value_at.line != frame.entry.at.line) value_at = frame.entry.at;
    if (frame.node.entries.size() == kYamlKeysMax) {
      if (!frame.is_full) result_->problems.push_back({frame.entry.at, Cat("more than ", kYamlKeysMax, " keys in one map")});
      frame.is_full = true;
    } else if (const YamlEntry* first = frame.node.Find(frame.entry.key)) {
      result_->problems.push_back({frame.entry.at, Cat(Path(frame), ": found twice, expected once; first in line ", first->at.line)});
    } else {
      frame.node.entries.push_back(std::move(frame.entry));
    }
  }

  Marks marks_;
  YamlResult* result_;
  std::vector<Frame> frames_;
};

// The first character that is none, if there is one.
bool FindBadCharacter(std::string_view text, YamlProblem* problem) {
  YamlMark at = {1, 1};
  for (size_t i = 0; i < text.size();) {
    const size_t bytes = CharacterBytes(text.substr(i));
    if (bytes == 0) {
      *problem = {at, Cat("a byte that is no UTF-8 text: ", static_cast<int>(static_cast<uint8_t>(text[i])))};
      return true;
    }
    at = text[i] == '\n' ? YamlMark{at.line + 1, 1} : YamlMark{at.line, at.column + 1};
    i += bytes;
  }
  return false;
}

}  // namespace

const YamlEntry* YamlNode::Find(std::string_view key) const {
  const auto entry = std::find_if(entries.begin(), entries.end(), [&](const YamlEntry& candidate) { return candidate.key == key; });
  return entry == entries.end() ? nullptr : &*entry;
}

YamlEntry* YamlNode::Find(std::string_view key) { return const_cast<YamlEntry*>(std::as_const(*this).Find(key)); }

YamlResult ReadYaml(std::string_view text) {
  YamlResult result;
  if (text.size() > kYamlBytesMax) {
    result.problems.push_back({{}, Cat("the text has ", text.size(), " bytes, expected at most ", kYamlBytesMax)});
    return result;
  }
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  if (YamlProblem problem; FindBadCharacter(text, &problem)) {
    result.problems.push_back(std::move(problem));
    return result;
  }
  const Marks marks(text);
  TreeBuilder builder(text, &result);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    if (parser.HandleNextDocument(builder)) {
      YamlResult second;
      TreeBuilder second_builder(text, &second);
      if (parser.HandleNextDocument(second_builder)) {
        result.problems.push_back({second.root.at, "a second document (---) is not taken here; one file is one configuration"});
      }
    }
  } catch (const YAML::Exception& error) {
    result.problems.push_back({marks.At(error.mark), Cat("not YAML: ", error.msg)});
  } catch (const std::exception& error) {
    result.problems.push_back({{}, Cat("not YAML: ", error.what())});
  }
  return result;
}

}  // namespace dtrain
