#include "datasets/csv.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "datasets/file_bytes.h"

namespace dtrain {
namespace {

// A field takes 32 bytes here and one in the file: without a limit a file of commas would be memory's end.
constexpr int64_t kFieldsMax = 1 << 20;

// Takes records from the text, one after the other.
class RecordReader {
 public:
  RecordReader(const std::string& name, std::string_view text, char delimiter, int64_t first_line)
      : name_(name), text_(text), delimiter_(delimiter), next_line_(first_line) {
    if (text_.starts_with("\xEF\xBB\xBF")) at_ = 3;
  }

  // The fields of the next record that is not blank; false at the end of the text. line() is where it begins.
  StatusOr<bool> Next(std::vector<std::string>* fields) {
    while (at_ < text_.size()) {
      line_ = next_line_;
      RETURN_IF_ERROR(ReadRecord(fields));
      const bool blank = fields->size() == 1 && fields->front().empty();
      if (!blank) return true;
    }
    return false;
  }
  int64_t line() const { return line_; }

 private:
  Status ReadRecord(std::vector<std::string>* fields) {
    int64_t count = 0;
    while (true) {
      if (count == kFieldsMax) return InvalidArgument(name_, ":", line_, ": more than ", WithCommas(kFieldsMax), " fields in one row");
      if (static_cast<int64_t>(fields->size()) == count) fields->emplace_back();
      std::string& field = (*fields)[static_cast<size_t>(count++)];
      field.clear();
      if (at_ < text_.size() && text_[at_] == '"') {
        RETURN_IF_ERROR(ReadQuoted(&field));
      } else {
        const char stops[] = {delimiter_, '\n'};
        const size_t end = std::min(text_.find_first_of(std::string_view(stops, 2), at_), text_.size());
        field = text_.substr(at_, end - at_);
        at_ = end;
        const bool line_ends = at_ == text_.size() || text_[at_] == '\n';
        if (line_ends && field.ends_with('\r')) field.pop_back();
      }
      if (at_ == text_.size()) break;
      if (text_[at_++] == '\n') {
        ++next_line_;
        break;
      }
    }
    fields->resize(static_cast<size_t>(count));
    return OkStatus();
  }

  // From the opening quote to behind the closing one, and behind a '\r' that ends the line.
  Status ReadQuoted(std::string* field) {
    ++at_;
    while (true) {
      const size_t quote = text_.find('"', at_);
      if (quote == std::string_view::npos) return InvalidArgument(name_, ":", line_, ": a quoted field has no closing quote");
      const std::string_view piece = text_.substr(at_, quote - at_);
      next_line_ += std::count(piece.begin(), piece.end(), '\n');
      *field += piece;
      at_ = quote + 1;
      if (at_ == text_.size() || text_[at_] != '"') break;
      *field += '"';
      ++at_;
    }
    if (text_.substr(at_).starts_with("\r\n") || text_.substr(at_) == "\r") ++at_;
    if (at_ < text_.size() && text_[at_] != delimiter_ && text_[at_] != '\n') {
      return InvalidArgument(name_, ":", next_line_, ": found '", text_[at_], "' after a closing quote, expected '", delimiter_,
                             "' or the line's end");
    }
    return OkStatus();
  }

  const std::string& name_;
  std::string_view text_;
  char delimiter_;
  size_t at_ = 0;
  int64_t line_ = 0, next_line_;
};

// The field as a finite float; nothing if it is none.
std::optional<float> ParseFloat(std::string_view field) {
  field = Trim(field);
  if (field.starts_with('+') && !field.starts_with("+-")) field.remove_prefix(1);
  const auto number = ParseDouble(field);
  if (!number || !std::isfinite(static_cast<float>(*number))) return std::nullopt;
  return static_cast<float>(*number);
}

StatusOr<size_t> FindLabel(const std::string& name, const std::string& label, const std::vector<std::string>& columns, bool header) {
  if (label.empty()) return columns.size() - 1;
  if (header) {
    const auto column = std::find(columns.begin(), columns.end(), label);
    if (column != columns.end()) {
      if (std::find(column + 1, columns.end(), label) != columns.end())
        return InvalidArgument(name, ": two columns are called \"", label, "\"");
      return column - columns.begin();
    }
  }
  const auto count = static_cast<int64_t>(columns.size());
  if (const auto number = ParseInt(label)) {
    if (*number >= -count && *number < count) return static_cast<size_t>(*number < 0 ? *number + count : *number);
    return InvalidArgument(name, ": label column ", *number, ", but there are ", count, " columns (expected ", -count, " to ", count - 1,
                           ")");
  }
  const auto nearest = Nearest(label, columns);
  return WithHint(InvalidArgument(name, ": no column \"", label, "\" for the label; the columns are ", Join(columns, ", ")),
                  nearest  ? Cat("did you mean \"", *nearest, "\"?")
                  : header ? ""
                           : "without a header give the label's number");
}

struct Labels {
  std::vector<std::string> texts;
  std::vector<int64_t> lines;
};

// The classes that labels stand for.
struct Classes {
  std::map<std::string, int64_t> numbers;  // of each label as it is written
  std::vector<std::string> names;          // of each class
};

// Integers are classes by value, in ascending order ("1" and "01" are one class); other numbers likewise, for binary; words
// are classes by their bytes.
StatusOr<Classes> NumberClasses(const std::string& name, const Labels& labels, const std::string& column, TaskType task) {
  bool all_integers = true, all_numbers = true;
  Classes classes;
  for (size_t row = 0; row < labels.texts.size(); ++row) {
    const std::string& text = labels.texts[row];
    if (text.empty()) return InvalidArgument(name, ":", labels.lines[row], ":", column, ": the label is empty");
    if (!classes.numbers.emplace(text, 0).second) continue;
    all_integers = all_integers && ParseInt(text).has_value();
    all_numbers = all_numbers && ParseFloat(text).has_value();
  }
  if (all_numbers && !all_integers && task == TaskType::kClassification) {
    const auto row = std::find_if(labels.texts.begin(), labels.texts.end(), [](const std::string& text) { return !ParseInt(text); }) -
                     labels.texts.begin();
    return WithHint(InvalidArgument(name, ":", labels.lines[row], ":", column, ": label ", labels.texts[row],
                                    ", expected an integer or a word as class"),
                    "for numbers to predict set data.task: regression");
  }
  const auto number_by = [&](const auto& value_of) {
    std::map<std::decay_t<decltype(value_of(std::string()))>, int64_t> order;
    for (const auto& [text, unused] : classes.numbers) order.emplace(value_of(text), 0);
    for (auto& [value, number] : order) {
      number = static_cast<int64_t>(classes.names.size());
      classes.names.push_back(Cat(value));
    }
    for (auto& [text, number] : classes.numbers) number = order.at(value_of(text));
  };
  if (all_integers) {
    number_by([](const std::string& text) { return *ParseInt(text); });
  } else if (all_numbers) {
    number_by([](const std::string& text) { return *ParseFloat(text); });
  } else {
    number_by([](const std::string& text) { return text; });
  }
  const size_t found = classes.names.size();
  if (found < 2 || (task == TaskType::kBinary && found != 2)) {
    classes.names.resize(std::min<size_t>(found, 5));
    return InvalidArgument(name, ": column ", column, " has ", found, found == 1 ? " label (" : " different labels (",
                           Join(classes.names, ", "), found > 5 ? ", ..." : "", "), expected ",
                           task == TaskType::kBinary ? "2" : "at least 2");
  }
  return classes;
}

Status FillTargets(const std::string& name, const Labels& labels, const std::string& column, TaskType task, Table* table) {
  DatasetSchema& schema = table->schema;
  schema.task = task;
  schema.target_dtype = task == TaskType::kClassification ? DType::kI64 : DType::kF32;
  if (task == TaskType::kRegression) {
    for (size_t row = 0; row < labels.texts.size(); ++row) {
      const auto number = ParseFloat(labels.texts[row]);
      if (!number) {
        return InvalidArgument(name, ":", labels.lines[row], ":", column, ": found \"", labels.texts[row],
                               "\", expected a finite number to predict");
      }
      table->number_targets.push_back(*number);
    }
    return OkStatus();
  }
  ASSIGN_OR_RETURN(Classes classes, NumberClasses(name, labels, column, task));
  schema.classes = static_cast<int64_t>(classes.names.size());
  schema.class_names = std::move(classes.names);
  for (const std::string& text : labels.texts) {
    if (task == TaskType::kClassification) {
      table->class_targets.push_back(classes.numbers.at(text));
    } else {
      table->number_targets.push_back(static_cast<float>(classes.numbers.at(text)));
    }
  }
  return OkStatus();
}

}  // namespace

StatusOr<Table> ParseCsv(const std::string& name, std::string_view text, const CsvOptions& options, int64_t first_line) {
  RecordReader reader(name, text, options.delimiter, first_line);
  std::vector<std::string> fields, columns;
  ASSIGN_OR_RETURN(bool more, reader.Next(&fields));
  if (!more) return InvalidArgument("read ", name, ": empty file, expected rows of numbers");
  if (options.header) {
    for (const std::string& field : fields) columns.emplace_back(Trim(field));
    ASSIGN_OR_RETURN(more, reader.Next(&fields));
    if (!more) return InvalidArgument("read ", name, ": a header but no rows");
  } else {
    for (size_t i = 0; i < fields.size(); ++i) columns.push_back(Cat("column ", i));
  }
  if (columns.size() < 2) {
    return WithHint(InvalidArgument("read ", name, ": one column, expected at least one input and a label"),
                    Cat("is '", options.delimiter, "' the delimiter of this file?"));
  }
  ASSIGN_OR_RETURN(const size_t label_column, FindLabel(name, options.label, columns, options.header));

  Table table;
  Labels labels;
  while (more) {
    if (fields.size() != columns.size()) {
      return InvalidArgument(name, ":", reader.line(), ": ", fields.size(), " fields, expected ", columns.size(), " as in the first line");
    }
    for (size_t i = 0; i < fields.size(); ++i) {
      if (i == label_column) {
        labels.texts.emplace_back(Trim(fields[i]));
        labels.lines.push_back(reader.line());
        continue;
      }
      const auto number = ParseFloat(fields[i]);
      if (!number) {
        return InvalidArgument(name, ":", reader.line(), ":", columns[i], ": found \"", fields[i], "\", expected a finite number");
      }
      table.inputs.push_back(*number);
    }
    ASSIGN_OR_RETURN(more, reader.Next(&fields));
  }
  RETURN_IF_ERROR(FillTargets(name, labels, columns[label_column], options.task, &table));
  table.schema.name = std::filesystem::path(name).filename().string();
  table.schema.input_shape = {static_cast<int64_t>(columns.size()) - 1};
  columns.erase(columns.begin() + static_cast<int64_t>(label_column));
  table.schema.column_names = std::move(columns);
  return table;
}

StatusOr<std::shared_ptr<const Dataset>> OpenCsv(const std::string& path, const CsvOptions& options) {
  ASSIGN_OR_RETURN(const auto bytes, ReadFileBytes(path));
  ASSIGN_OR_RETURN(Table table, ParseCsv(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}, options));
  return std::make_shared<const TableDataset>(std::move(table));
}

}  // namespace dtrain
