// CSV files (RFC 4180, other delimiters too) as tables: every column is an input but one, the label.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "datasets/table.h"

namespace dtrain {

struct CsvOptions {
  std::string label;   // a column's name or number (0 is the first, -1 the last); empty is the last
  bool header = true;  // the first line names the columns
  char delimiter = ',';
  TaskType task = TaskType::kClassification;
};

// `text` as a table. Fields may be quoted, with doubled quotes and line breaks inside; blank lines and a byte order mark
// are skipped; \r\n is a line end. Inputs must be finite numbers. Labels: for classification integers or words,
// numbered in ascending order, and class_names says which is which; for binary two different values, the lower is 0;
// for regression a number.
// Errors are kInvalidArgument and begin with "`name`:line:" where a line is to blame. `first_line` is the number of the
// text's first line in its file.
StatusOr<Table> ParseCsv(const std::string& name, std::string_view text, const CsvOptions& options, int64_t first_line = 1);

// The file at `path`, plain or gzip. Errors of ReadFileBytes and ParseCsv.
StatusOr<std::shared_ptr<const Dataset>> OpenCsv(const std::string& path, const CsvOptions& options);

}  // namespace dtrain
